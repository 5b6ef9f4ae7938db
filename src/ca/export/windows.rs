//! `.ps1`: a PowerShell script that imports the certificates and adds the connection (Windows 10 and
//! later, module `VpnClient`).

use super::Profile;

/// The script; it stands beside `ca.crt` and the `.pfx` and asks for the password.
pub(super) fn script(of: &Profile<'_>, pfx: &str) -> Vec<u8> {
    let (name, peer) = (quote(of.ca), quote(of.peer));
    let pfx = quote(pfx);
    let lines = format!(
        "#Requires -RunAsAdministrator\n\
         # Adds the IKEv2 connection {name} to this computer. Run it from the unpacked archive.\n\
         $ErrorActionPreference = 'Stop'\n\
         $password = Read-Host -AsSecureString -Prompt 'Export passphrase'\n\
         Import-Certificate -FilePath (Join-Path $PSScriptRoot 'ca.crt') `\n\
         \x20   -CertStoreLocation Cert:\\LocalMachine\\Root | Out-Null\n\
         Import-PfxCertificate -FilePath (Join-Path $PSScriptRoot {pfx}) `\n\
         \x20   -CertStoreLocation Cert:\\LocalMachine\\My -Password $password | Out-Null\n\
         Add-VpnConnection -Name {name} -ServerAddress {peer} -TunnelType Ikev2 `\n\
         \x20   -AuthenticationMethod MachineCertificate -EncryptionLevel Required -AllUserConnection\n\
         Set-VpnConnectionIPsecConfiguration -ConnectionName {name} -AllUserConnection `\n\
         \x20   -AuthenticationTransformConstants GCMAES256 -CipherTransformConstants GCMAES256 `\n\
         \x20   -EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA256 -DHGroup ECP256 `\n\
         \x20   -PfsGroup None -Force\n"
    );
    lines.replace('\n', "\r\n").into_bytes()
}

/// A literal: nothing is expanded, and quotes are doubled.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
