{{/* gatelet's container but for its name, as a sidecar and alone. */}}
{{- define "gatelet.container" -}}
{{- $redis := .Values.store.redis -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: http
    containerPort: 8080
  - name: metrics
    containerPort: 9464
# Started, not ready: while a server is away a new pod waits for it without callers, and restarting
# it would not bring the server back.
startupProbe:
  httpGet:
    path: /livez
    port: metrics
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 2
  failureThreshold: 1
livenessProbe:
  httpGet:
    path: /livez
    port: metrics
  periodSeconds: 10
  failureThreshold: 3
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "gatelet.containerSecurity" . | nindent 2 }}
volumeMounts:
  # Whole folders: a file mounted with subPath would never change.
  - name: config
    mountPath: /etc/gatelet
    readOnly: true
  {{- if .Values.apiKeysSecret }}
  - name: keys
    mountPath: /etc/gatelet-keys
    readOnly: true
  {{- end }}
  {{- if eq .Values.store.kind "embedded" }}
  - name: data
    mountPath: /var/lib/gatelet
  {{- else if and (eq .Values.store.kind "redis") (or $redis.passwordSecret.name $redis.caSecret.name) }}
  - name: store
    mountPath: /etc/gatelet-store
    readOnly: true
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The API's own container, but for its name. */}}
{{- define "gatelet.api" -}}
image: {{ .image | quote }}
imagePullPolicy: {{ .pullPolicy }}
{{- range $field := list "command" "args" "env" "envFrom" "livenessProbe" "resources" "securityContext" "volumeMounts" }}
{{- with get $ $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}
