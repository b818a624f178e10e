"""What a scanner finds to be weak about TLS towards callers as it is by default: nothing."""

import socket
import ssl

import pytest
from sslyze import (
    CertificateInfoExtraArgument,
    ScanCommand,
    ScanCommandAttemptStatusEnum,
    ScanCommandsExtraArguments,
    Scanner,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanStatusEnum,
)
from sslyze.mozilla_tls_profile.tls_config_checker import (
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)
from sslyze.plugins.robot.implementation import RobotScanResultEnum
from sslyze.plugins.session_resumption.implementation import TlsResumptionSupportEnum

from processes import BOUND

# What answers say beyond their content is the API's affair.
COMMANDS = set(ScanCommand) - {ScanCommand.HTTP_HEADERS}

@pytest.fixture
def scan(world, authority, api):
    """What the scanner has seen of a server."""
    server = world(f'url = "{api.url}"', authority.issue())
    scanner = Scanner()
    scanner.queue_scans(
        [
            ServerScanRequest(
                ServerNetworkLocation("localhost", int(server.port), "127.0.0.1"),
                scan_commands=COMMANDS,
                scan_commands_extra_arguments=ScanCommandsExtraArguments(
                    certificate_info=CertificateInfoExtraArgument(custom_ca_file=authority.file)
                ),
            )
        ]
    )
    (found,) = scanner.get_results()
    assert found.scan_status == ServerScanStatusEnum.COMPLETED, found.connectivity_error_trace
    for command in COMMANDS:
        attempt = getattr(found.scan_result, command.value)
        assert attempt.status == ScanCommandAttemptStatusEnum.COMPLETED, (command, attempt.error_trace)
    return found


def issues(scan, configuration):
    """What Mozilla's recommendations say against a server."""
    try:
        check_server_against_tls_configuration(scan, MozillaTlsConfiguration.get(configuration))
    except ServerNotCompliantWithTlsConfiguration as not_compliant:
        return not_compliant.issues
    return {}


# Of an authority that the scanner compares with, and nobody's here.
@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_a_scanner_finds_nothing(scan):
    """Certificate and chain, versions, cipher suites, curves, and every vulnerability that has a name."""
    assert issues(scan, TlsConfigurationEnum.MOZILLA_INTERMEDIATE) == {}
    # But for TLS 1.2, which is spoken too, it is as modern as can be.
    assert set(issues(scan, TlsConfigurationEnum.MOZILLA_MODERN)) == {"tls_versions", "ciphers"}

    found = {command.value: getattr(scan.scan_result, command.value).result for command in COMMANDS}
    versions = {name for name, seen in found.items() if "cipher_suites" in name and seen.is_tls_version_supported}
    assert versions == {"tls_1_2_cipher_suites", "tls_1_3_cipher_suites"}
    suites = {each.cipher_suite.name for name in versions for each in found[name].accepted_cipher_suites}
    assert suites == {
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    }
    curves = {each.name for each in found["elliptic_curves"].supported_curves}
    assert curves == {"X25519", "secp256r1", "secp384r1"}

    assert not found["heartbleed"].is_vulnerable_to_heartbleed
    assert not found["openssl_ccs_injection"].is_vulnerable_to_ccs_injection
    assert found["robot"].robot_result == RobotScanResultEnum.NOT_VULNERABLE_RSA_NOT_SUPPORTED
    # CRIME.
    assert not found["tls_compression"].supports_compression
    # Early data may be replayed.
    assert not found["tls_1_3_early_data"].supports_early_data
    renegotiation = found["session_renegotiation"]
    assert renegotiation.supports_secure_renegotiation
    assert not renegotiation.is_vulnerable_to_client_renegotiation_dos
    assert renegotiation.client_renegotiations_success_count == 0
    assert found["tls_fallback_scsv"].supports_fallback_scsv
    assert found["tls_extended_master_secret"].supports_ems_extension
    # Nothing of a session is kept here; for the tickets see below: the scanner wants the same one twice.
    assert found["session_resumption"].session_id_resumption_result == TlsResumptionSupportEnum.NOT_SUPPORTED

    (deployed,) = found["certificate_info"].certificate_deployments
    assert deployed.received_chain_has_valid_order
    assert not deployed.received_chain_contains_anchor_certificate
    assert not deployed.verified_chain_has_sha1_signature
    assert any(each.was_validation_successful for each in deployed.path_validation_results)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_openssl_resumes_its_sessions(world, authority, api, version):
    server = world(f'url = "{api.url}"', authority.issue())
    context = ssl.create_default_context(cafile=authority.file)
    context.minimum_version = context.maximum_version = version

    def ask(session=None):
        """Whether a session was resumed, and the one to resume next."""
        with (
            socket.create_connection(server.proxy.split(":"), BOUND) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as wire,
        ):
            wire.sendall(f"GET / HTTP/1.1\r\nhost: localhost\r\nx-api-key: {server.key}\r\n\r\n".encode())
            # A ticket comes with the first answer.
            assert wire.recv(1024).startswith(b"HTTP/1.1 200 ")
            return wire.session_reused, wire.session

    resumed, session = ask()
    assert not resumed
    for _ in range(3):
        resumed, session = ask(session)
        assert resumed
    assert len(api.received) == 4
