//! What `set` and the rc files change about a session's answers.

use std::path::PathBuf;

/// The base in which numbers of structures and `p` are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Radix {
    /// As crash does by itself.
    #[default]
    Decimal,
    /// After `set radix 16`, or `hex`.
    Hex,
}

/// What shows answers that are longer than the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pager {
    /// `less`.
    #[default]
    Less,
    /// `more`.
    More,
    /// What the environment names.
    Environment,
}

/// Where error messages go while an answer goes to a pipe or a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ErrorsTo {
    /// To standard error.
    #[default]
    StandardError,
    /// With the answer.
    Answer,
    /// To the end of a file, whatever the answer does.
    File(PathBuf),
}

/// How lines are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EditMode {
    /// As emacs.
    #[default]
    Emacs,
    /// As vi.
    Vi,
}

/// A session's settings: crash's variables that mean something here.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base of numbers.
    pub radix: Radix,
    /// Elements of an array that are printed at most.
    pub print_max: u64,
    /// Whether each element of an array has a line.
    pub print_array: bool,
    /// Whether character arrays end at their first NUL.
    pub null_stop: bool,
    /// Whether long answers go through the pager.
    pub scroll: bool,
    /// Which one.
    pub pager: Pager,
    /// Whether input files run without showing their commands.
    pub silent: bool,
    /// How lines are edited.
    pub edit: EditMode,
    /// Whether all lines are gdb's (`crash COMMAND` is one of crash's then).
    pub gdb: bool,
    /// Text address whose view of types is meant; 0: none.
    pub scope: u64,
    /// Whether CPUs that are offline are left out.
    pub offline_hide: bool,
    /// Where error messages go.
    pub error: ErrorsTo,
    /// crash's level of debug messages; kept, nothing depends on it.
    pub debug: u64,
    /// Whether `kmem` counts an object's red zone to it.
    pub redzone: bool,
    /// crash's task list refresh, list hashing, core on error and unwinder:
    /// kept, nothing depends on them.
    pub refresh: bool,
    #[allow(missing_docs)]
    pub hash: bool,
    #[allow(missing_docs)]
    pub core: bool,
    #[allow(missing_docs)]
    pub unwind: bool,
    /// `bt -O`: stacks by all return addresses that stand on them.
    pub old_backtrace: bool,
    /// The kernel that was named on the command line.
    pub namelist: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            radix: Radix::default(),
            print_max: 256,
            print_array: false,
            null_stop: false,
            scroll: true,
            pager: Pager::default(),
            silent: true,
            edit: EditMode::default(),
            gdb: false,
            scope: 0,
            offline_hide: false,
            error: ErrorsTo::default(),
            debug: 0,
            redzone: true,
            refresh: true,
            hash: true,
            core: false,
            unwind: false,
            old_backtrace: false,
            namelist: None,
        }
    }
}
