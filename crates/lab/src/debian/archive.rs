//! Fetches indices and packages from a Debian mirror, as a user, into the lab's cache.
//!
//! The chain of trust is Debian's: InRelease is signed (checked with gpgv where
//! the host has it and Debian's keyring), it names the checksum of Packages.xz,
//! which names the checksum of each package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::control::{self, Package};
use crate::arch::Arch;
use crate::error::{LabError, Result};
use crate::host;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// No package the lab takes is larger; a debug package has about 350 MB.
const DOWNLOAD_LIMIT: u64 = 2 << 30;

/// A suite of a mirror, e.g. bookworm-security of deb.debian.org.
#[derive(Clone, Debug)]
pub(crate) struct Suite {
    /// Address of the mirror's root, without a slash at its end.
    pub(crate) mirror: String,
    pub(crate) name: String,
    /// Whose packages are wanted.
    pub(crate) arch: Arch,
}

impl Suite {
    /// Downloads and checks the index of the suite's packages.
    pub(crate) fn packages(&self, scratch: &Path) -> Result<Vec<Package>> {
        let base = format!("{}/dists/{}", self.mirror, self.name);
        let index = self.arch.index();
        let signed = scratch.join(format!("{}.InRelease", self.name));
        download(&format!("{base}/InRelease"), &signed)?;
        let release = self.verify(&signed)?;
        let expected = control::parse_release_checksum(&release, &index).ok_or_else(|| {
            LabError::Download {
                url: format!("{base}/InRelease"),
                reason: format!("it names no {index}"),
            }
        })?;
        let packed = scratch.join(format!("{}.{}.Packages.xz", self.name, self.arch.name()));
        download_checked(&format!("{base}/{index}"), &packed, &expected)?;
        let text = host::output(Command::new("xz").arg("-dc").arg(&packed))?;
        Ok(control::parse_packages(&String::from_utf8_lossy(&text)))
    }

    /// Whether the mirror still has a package that its index names.
    pub(crate) fn has(&self, package: &Package) -> bool {
        agent().head(format!("{}/{}", self.mirror, package.filename)).call().is_ok()
    }

    /// Downloads a package into `folder`, unpacks it under `root` and deletes it.
    pub(crate) fn unpack(&self, package: &Package, folder: &Path, root: &Path) -> Result<()> {
        let file = self.download(package, folder)?;
        host::run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(root))?;
        fs::remove_file(&file).map_err(LabError::io("remove", &file))
    }

    /// Downloads a package into `folder` and checks it.
    pub(crate) fn download(&self, package: &Package, folder: &Path) -> Result<PathBuf> {
        let file = folder.join(format!("{}_{}.deb", package.name, package.version));
        let url = format!("{}/{}", self.mirror, package.filename);
        download_checked(&url, &file, &package.sha256)?;
        Ok(file)
    }

    /// The signed text of an InRelease file. A host without gpgv or without
    /// Debian's keyring (not a Debian) still has the checksums below it.
    fn verify(&self, signed: &Path) -> Result<String> {
        let text = fs::read_to_string(signed).map_err(LabError::io("read", signed))?;
        if !Path::new(KEYRING).exists() || !host::has("gpgv") {
            host::note(&format!("{}: no gpgv or keyring here, signature not checked", self.name));
            return Ok(text);
        }
        let output = Command::new("gpgv")
            .args(["--quiet", "--keyring", KEYRING, "--output", "-"])
            .arg(signed)
            .output()
            .map_err(LabError::io("run", Path::new("gpgv")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let reason = String::from_utf8_lossy(&output.stderr);
        Err(LabError::Signature {
            suite: self.name.clone(),
            reason: reason.lines().last().unwrap_or("no reason given").to_owned(),
        })
    }
}

fn download_checked(url: &str, file: &Path, expected: &str) -> Result<()> {
    download(url, file)?;
    let actual = sha256_of_file(file)?;
    if actual == expected {
        return Ok(());
    }
    let _ = fs::remove_file(file);
    Err(LabError::Checksum { what: url.to_owned(), expected: expected.to_owned(), actual })
}

fn download(url: &str, file: &Path) -> Result<()> {
    let failed = |reason: String| LabError::Download { url: url.to_owned(), reason };
    let mut response = agent().get(url).call().map_err(|error| failed(error.to_string()))?;
    let mut body = response.body_mut().with_config().limit(DOWNLOAD_LIMIT).reader();
    let mut out = fs::File::create(file).map_err(LabError::io("create", file))?;
    std::io::copy(&mut body, &mut out).map_err(|error| failed(error.to_string()))?;
    Ok(())
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build()
        .into()
}

fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).map_err(LabError::io("open", path))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut HashWriter(&mut hasher)).map_err(LabError::io("read", path))?;
    Ok(hex(&hasher.finalize()))
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
