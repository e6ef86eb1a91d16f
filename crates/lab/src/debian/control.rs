//! Paragraphs of a `Packages` index and the checksums of a `Release` file.
//!
//! Source: deb-src-control(5), https://wiki.debian.org/DebianRepository/Format.

use super::version;

/// One binary package of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) filename: String,
    pub(crate) sha256: String,
}

/// Reads the paragraphs of a `Packages` file, those without a file left out.
pub(crate) fn parse_packages(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(parse_package).collect()
}

fn parse_package(paragraph: &str) -> Option<Package> {
    let mut package = Package::default();
    for line in paragraph.lines() {
        let Some((field, value)) = line.split_once(": ") else { continue };
        let slot = match field {
            "Package" => &mut package.name,
            "Version" => &mut package.version,
            "Filename" => &mut package.filename,
            "SHA256" => &mut package.sha256,
            _ => continue,
        };
        *slot = value.trim().to_owned();
    }
    let complete = [&package.name, &package.version, &package.filename, &package.sha256];
    complete.iter().all(|field| !field.is_empty()).then_some(package)
}

/// The checksum that a `Release` file gives for one of its files.
pub(crate) fn parse_release_checksum(release: &str, path: &str) -> Option<String> {
    let mut lines = release.lines().skip_while(|line| line.trim_end() != "SHA256:").skip(1);
    lines.by_ref().take_while(|line| line.starts_with(' ')).find_map(|line| {
        let mut columns = line.split_whitespace();
        let (checksum, _size, name) = (columns.next()?, columns.next()?, columns.next()?);
        (name == path).then(|| checksum.to_owned())
    })
}

/// Packages whose names match `pattern` (one `*`), and what the `*` stands for.
pub(crate) fn find_all<'a>(
    packages: &'a [Package],
    pattern: &'a str,
) -> impl Iterator<Item = (&'a Package, &'a str)> {
    let (prefix, suffix) = pattern.split_once('*').unwrap_or((pattern, ""));
    packages.iter().filter_map(move |package| {
        let abi = package.name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        abi.starts_with(|c: char| c.is_ascii_digit()).then_some((package, abi))
    })
}

/// The newest package of exactly this name.
pub(crate) fn find_package<'a>(packages: &'a [Package], name: &str) -> Option<&'a Package> {
    packages
        .iter()
        .filter(|package| package.name == name)
        .max_by(|a, b| version::compare(&a.version, &b.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: &str = "\
Package: linux-image-6.1.0-9-cloud-amd64
Version: 6.1.27-1
Description: Linux 6.1
 a line that goes on: with a colon
Filename: pool/a.deb
SHA256: aa

Package: linux-image-6.1.0-47-cloud-amd64
Version: 6.1.176-1
Filename: pool/b.deb
SHA256: bb

Package: linux-image-6.1.0-47-cloud-amd64-dbg
Version: 6.1.176-1
Filename: pool/c.deb
SHA256: cc

Package: linux-image-6.1.0-99-cloud-amd64
Version: 6.1.999-1
";

    #[test]
    fn finds_complete_packages_by_pattern() {
        let packages = parse_packages(PACKAGES);
        assert_eq!(packages.len(), 3, "a paragraph without a file is no package");
        let abis: Vec<&str> =
            find_all(&packages, "linux-image-6.1.0-*-cloud-amd64").map(|(_, abi)| abi).collect();
        assert_eq!(abis, ["9", "47"], "neither the debug package nor the one without a file");
        assert_eq!(find_all(&packages, "linux-image-5.10.0-*-cloud-amd64").count(), 0);
        assert!(find_package(&packages, "linux-image-6.1.0-9-cloud-amd64").is_some());
    }

    #[test]
    fn takes_the_sha256_and_not_the_md5() {
        let release = "MD5Sum:\n 11 5 main/Packages.xz\nSHA256:\n 22 5 main/Packages.gz\n \
                       33 5 main/Packages.xz\nOther: x\n";
        assert_eq!(parse_release_checksum(release, "main/Packages.xz").as_deref(), Some("33"));
        assert_eq!(parse_release_checksum(release, "main/Contents"), None);
    }
}
