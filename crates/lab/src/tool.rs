//! A program of a newer Debian suite, unpacked with the libraries it needs.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use crate::cache::{Cache, publish};
use crate::debian::indices::Indices;
use crate::error::{LabError, Result};
use crate::host;
use crate::loader;
use crate::matrix::Matrix;

/// Where a program comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    /// Name of its folder in the cache.
    pub(crate) name: String,
    suites: Vec<String>,
    package: String,
    /// Path in the package.
    path: String,
    /// Packages of its libraries, the C library among them.
    runtime: Vec<String>,
}

impl Tool {
    /// The program and the version of its package, fetched if it is not in the cache.
    pub(crate) fn prepare(&self, cache: &Cache, matrix: &Matrix) -> Result<(PathBuf, String)> {
        let _lock = cache.lock(&format!("tool-{}", self.name))?;
        let root = cache.path("tools").join(&self.name);
        let version_file = root.join("version");
        if !version_file.is_file() {
            host::note(&format!("fetching {}", self.name));
            let scratch = cache.scratch()?;
            let indices = Indices::read(matrix.suites(&self.suites)?, scratch.path())?;
            let staged = scratch.path().join("root");
            let (suite, package) = indices.package(&self.package)?;
            suite.unpack(&package, scratch.path(), &staged)?;
            for (suite, library) in indices.packages(&self.runtime)? {
                suite.unpack(&library, scratch.path(), &staged)?;
            }
            loader::wrap(&[staged.join(&self.path)], &staged, &root, &root)?;
            let staged_version = staged.join("version");
            fs::write(&staged_version, &package.version)
                .map_err(LabError::io("write", &staged_version))?;
            publish(&staged, &root)?;
        }
        let version =
            fs::read_to_string(&version_file).map_err(LabError::io("read", &version_file))?;
        Ok((root.join(&self.path), version))
    }
}
