//! Lines as they are typed: editing, history, completion.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use kmortem_kernel::Kernel;
use kmortem_shell::Session;
use kmortem_shell::complete::{self, Completion};
use kmortem_shell::settings::EditMode;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::{FileHistory, History, SearchDirection};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::history;

/// Lines that are kept.
const KEPT: usize = 2000;

/// What came of a prompt.
pub(crate) enum Typed {
    Line(String),
    /// Ctrl-C: the line is given up.
    Cleared,
    /// Ctrl-D: no more lines.
    End,
}

/// The prompt of a session.
pub(crate) struct Prompt {
    editor: Editor<Assistant, FileHistory>,
    file: Option<PathBuf>,
}

impl Prompt {
    pub(crate) fn new(session: &Session) -> io::Result<Prompt> {
        let edit = match session.settings().edit {
            EditMode::Emacs => rustyline::EditMode::Emacs,
            EditMode::Vi => rustyline::EditMode::Vi,
        };
        let config = Config::builder()
            .max_history_size(KEPT)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(io::Error::other)?
            .completion_type(CompletionType::List)
            .edit_mode(edit)
            .auto_add_history(false)
            .build();
        let mut editor = Editor::with_config(config).map_err(io::Error::other)?;
        editor.set_helper(Some(Assistant {
            kernel: session.shared_kernel(),
            aliases: Vec::new(),
            files: FilenameCompleter::new(),
        }));
        let file = history::file();
        if let Some(file) = &file {
            // The first session has none.
            let _ = editor.load_history(file);
        }
        Ok(Prompt { editor, file })
    }

    /// Reads a line.
    pub(crate) fn read(&mut self, prompt: &str, session: &Session) -> io::Result<Typed> {
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.aliases = session
                .aliases()
                .map(|(name, command)| (name.to_owned(), command.to_owned()))
                .collect();
        }
        match self.editor.readline(prompt) {
            Ok(line) => Ok(Typed::Line(line.replace("\\\n", " "))),
            Err(ReadlineError::Interrupted) => Ok(Typed::Cleared),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(ReadlineError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Lines of before, the oldest first.
    pub(crate) fn history(&self) -> Vec<String> {
        let history = self.editor.history();
        let entry = |i| history.get(i, SearchDirection::Forward).ok().flatten();
        (0..history.len()).filter_map(entry).map(|found| found.entry.into_owned()).collect()
    }

    /// Keeps a line.
    pub(crate) fn remember(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        // A history that can't be kept is no reason to end a session.
        let _ = self.editor.add_history_entry(line);
        if let Some(file) = &self.file {
            let _ = self.editor.append_history(file);
        }
    }
}

/// Knows how a line may go on.
struct Assistant {
    kernel: Arc<Kernel>,
    aliases: Vec<(String, String)>,
    files: FilenameCompleter,
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let pair = |text: String| Pair { display: text.clone(), replacement: text };
        match complete::complete(&self.kernel, &self.aliases, &line[..pos]) {
            Completion::Words { start, words } => {
                Ok((start, words.into_iter().map(pair).collect()))
            }
            Completion::File => self.files.complete_path(line, pos),
        }
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let line = context.input();
        let goes_on = line.ends_with('\\') && !line.ends_with("\\\\");
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}
impl Highlighter for Assistant {}
impl Helper for Assistant {}
