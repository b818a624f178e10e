{{/* What would run and not be what was meant, each refused with a way out. */}}
{{- define "gatelet.refusals" -}}
{{- $redis := .Values.store.redis -}}
{{- $bundled := $redis.bundled.enabled -}}
{{- if not (or .Values.api.image .Values.config.upstreams) -}}
{{- fail "nothing to guard: set api.image to run your API in one pod with gatelet, or config.upstreams to put gatelet before a Service" -}}
{{- end -}}
{{- if eq .Values.store.kind "embedded" -}}
{{- if or (kindIs "invalid" .Values.replicas) (gt (int .Values.replicas) 1) -}}
{{- fail "an embedded store belongs to one pod: set replicas to 1, or store.kind to redis" -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.store.kind "redis" -}}
{{- if and $bundled (or $redis.urls $redis.cluster $redis.sentinelMaster $redis.username $redis.caSecret.name) -}}
{{- fail "the bundled server is all there is to know: leave out store.redis.urls, cluster, sentinelMaster, username and caSecret, or set store.redis.bundled.enabled to false" -}}
{{- end -}}
{{- if and $bundled (not $redis.passwordSecret.name) -}}
{{- fail "the bundled server needs a password: name a Secret in store.redis.passwordSecret.name" -}}
{{- end -}}
{{- if not (or $bundled $redis.urls) -}}
{{- fail "no server: set store.redis.urls, or store.redis.bundled.enabled" -}}
{{- end -}}
{{- else if or $bundled $redis.urls -}}
{{- fail (printf "store.redis names a server that a store of the kind %s does not use: set store.kind to redis" .Values.store.kind) -}}
{{- end -}}
{{- end -}}

{{/* The section [store], as JSON; empty where nothing is kept. */}}
{{- define "gatelet.store" -}}
{{- $redis := .Values.store.redis -}}
{{- $store := dict -}}
{{- if eq .Values.store.kind "embedded" -}}
{{- /* Below the volume's own folder, whose mode is not gatelet's to change. */ -}}
{{- $store = dict "kind" "embedded" "path" "/var/lib/gatelet/store" -}}
{{- else if eq .Values.store.kind "redis" -}}
{{- $urls := $redis.urls -}}
{{- if $redis.bundled.enabled -}}
{{- $urls = list (printf "redis://%s-valkey:6379" (include "gatelet.name" .)) -}}
{{- end -}}
{{- $store = dict "kind" "redis" "urls" $urls "key_prefix" $redis.keyPrefix -}}
{{- if $redis.cluster -}}{{- $_ := set $store "cluster" true -}}{{- end -}}
{{- with $redis.sentinelMaster -}}{{- $_ := set $store "sentinel_master" . -}}{{- end -}}
{{- with $redis.username -}}{{- $_ := set $store "username" . -}}{{- end -}}
{{- if $redis.passwordSecret.name -}}{{- $_ := set $store "password_file" "/etc/gatelet-store/password" -}}{{- end -}}
{{- if $redis.caSecret.name -}}{{- $_ := set $store "ca_file" "/etc/gatelet-store/ca.crt" -}}{{- end -}}
{{- end -}}
{{- toJson $store -}}
{{- end -}}

{{/* The configuration, in TOML. */}}
{{- define "gatelet.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if not $config.upstreams -}}
{{- $url := printf "http://127.0.0.1:%d" (int .Values.api.port) -}}
{{- $_ := set $config "upstreams" (list (dict "name" "api" "url" $url)) -}}
{{- end -}}
{{- if .Values.apiKeysSecret -}}
{{- $keys := merge (dict "directory" "/etc/gatelet-keys") ($config.api_keys | default dict) -}}
{{- $_ := set $config "api_keys" $keys -}}
{{- end -}}
{{- with include "gatelet.store" . | fromJson -}}
{{- $_ := set $config "store" . -}}
{{- end -}}
{{- include "gatelet.toml" (dict "at" "" "table" $config) | trim -}}
{{- end -}}

{{/*
A table and those below it. JSON's strings, numbers and lists of them are TOML's as well, and toJson
leaves whole numbers whole, as toToml does not.
*/}}
{{- define "gatelet.toml" -}}
{{- $at := .at -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "invalid" $value) (kindIs "map" $value) (include "gatelet.ofTables" $value)) }}
{{ $key }} = {{ toJson $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- $below := ternary (printf "%s.%s" $at $key) $key (ne $at "") -}}
{{- if kindIs "map" $value }}

[{{ $below }}]
{{- include "gatelet.toml" (dict "at" $below "table" $value) -}}
{{- else if include "gatelet.ofTables" $value -}}
{{- range $each := $value }}

[[{{ $below }}]]
{{- include "gatelet.toml" (dict "at" $below "table" $each) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether it is a list of tables: anything, or nothing. */}}
{{- define "gatelet.ofTables" -}}
{{- if kindIs "slice" . -}}
{{- if . -}}
{{- if kindIs "map" (first .) -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a running gatelet does not read again: a change of it takes new pods. */}}
{{- define "gatelet.fixed" -}}
{{- $config := .Values.config -}}
{{- $cache := $config.cache | default dict -}}
{{- $log := $config.log | default dict -}}
{{- $keys := $config.api_keys | default dict -}}
{{- list (include "gatelet.store" .) $config.runtime $cache.capacity $log.format $log.access $keys.pepper_file | toJson | sha256sum -}}
{{- end -}}
