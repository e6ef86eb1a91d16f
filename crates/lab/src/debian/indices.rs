//! Picks packages out of the indices of several suites.

use std::path::Path;

use super::archive::Suite;
use super::control::{self, Package};
use super::version;
use crate::error::{LabError, Result};
use crate::matrix::KernelSpec;

/// A package together with the suite that has it.
pub(crate) type Found = (Suite, Package);

/// A build of a kernel: what stands for the `*` in its name, and its packages.
pub(crate) struct Build {
    pub(crate) abi: String,
    pub(crate) packages: Vec<Found>,
}

/// The package indices of some suites.
pub(crate) struct Indices(Vec<(Suite, Vec<Package>)>);

impl Indices {
    /// Reads the indices of all of them.
    pub(crate) fn read(suites: Vec<Suite>, scratch: &Path) -> Result<Indices> {
        let mut indices = Vec::new();
        for suite in suites {
            let packages = suite.packages(scratch)?;
            indices.push((suite, packages));
        }
        Ok(Indices(indices))
    }

    /// The newest build that the mirror has in full, debug package included: an
    /// index may go on naming packages that are gone. Without any such build,
    /// the newest.
    pub(crate) fn newest_build(&self, spec: &KernelSpec) -> Result<Build> {
        let mut images: Vec<(&Package, &str)> = self
            .0
            .iter()
            .flat_map(|(_, packages)| control::find_all(packages, &spec.image))
            .collect();
        images.sort_by(|(a, _), (b, _)| version::compare(&b.version, &a.version));
        let build = |abi: &str| -> Result<Build> {
            let names = std::iter::once(&spec.image).chain(&spec.packages).chain(&spec.headers);
            let packages =
                names.map(|name| self.package(&name.replace("{abi}", abi).replace('*', abi)));
            Ok(Build { abi: abi.to_owned(), packages: packages.collect::<Result<_>>()? })
        };
        for (_, abi) in &images {
            let Ok(build) = build(abi) else { continue };
            let Ok(debug) = self.package(&spec.debug.replace("{abi}", abi)) else { continue };
            if build.packages.iter().chain([&debug]).all(|(suite, package)| suite.has(package)) {
                return Ok(build);
            }
        }
        match images.first() {
            Some((_, abi)) => build(abi),
            None => Err(self.missing(&spec.image)),
        }
    }

    /// The newest package that the mirror has of those whose names have a number in the
    /// place of the `*`, and no more than that.
    pub(crate) fn newest_of(&self, pattern: &str) -> Result<Found> {
        let mut found: Vec<(&Suite, &Package)> = Vec::new();
        for (suite, packages) in &self.0 {
            let plain = |abi: &str| abi.bytes().all(|byte| byte.is_ascii_digit());
            let all = control::find_all(packages, pattern).filter(|(_, abi)| plain(abi));
            found.extend(all.map(|(package, _)| (suite, package)));
        }
        found.sort_by(|(_, a), (_, b)| version::compare(&b.version, &a.version));
        let there = found.into_iter().find(|(suite, package)| suite.has(package));
        let (suite, package) = there.ok_or_else(|| self.missing(pattern))?;
        Ok((suite.clone(), package.clone()))
    }

    /// The newest package of a name, over all suites.
    pub(crate) fn package(&self, name: &str) -> Result<Found> {
        let found = self.0.iter().filter_map(|(suite, packages)| {
            Some((suite.clone(), control::find_package(packages, name)?.clone()))
        });
        let newest = found.max_by(|a, b| version::compare(&a.1.version, &b.1.version));
        newest.ok_or_else(|| self.missing(name))
    }

    /// The newest packages of some names.
    pub(crate) fn packages(&self, names: &[String]) -> Result<Vec<Found>> {
        names.iter().map(|name| self.package(name)).collect()
    }

    fn missing(&self, pattern: &str) -> LabError {
        let suites: Vec<&str> = self.0.iter().map(|(suite, _)| suite.name.as_str()).collect();
        LabError::NoPackage { pattern: pattern.to_owned(), suites: suites.join(", ") }
    }
}
