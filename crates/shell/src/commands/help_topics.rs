//! Pages of `help` that are about no single command.

/// (name, text)
pub(crate) const TOPICS: &[(&str, &str)] = &[("input", INPUT), ("output", OUTPUT)];

const INPUT: &str = "\
A line is a command with its options and words. Quotes of either kind, parentheses and a backslash
keep blanks and characters of the syntax as they are.

  < FILE              runs the commands of FILE, one per line
  CMD WORDS < FILE    runs CMD for each line of FILE, with the line's words in the place of `< FILE`
  !COMMAND            runs COMMAND on the host; `!` alone is a shell there
  # or //             begins a comment
  \\ at the end        the command goes on in the next line
  *TYPE               shows a structure, as `* TYPE` and `struct TYPE` do

A word that is no command: a symbol is printed (`p`), a type is shown (`struct`, `union`, `whatis`),
and what gdb understands goes to `gdb`. `alias` makes words of your own.

On a terminal: the arrow keys edit the line and go through the history, Ctrl-R searches it, Tab
completes commands, options, symbols, types and members. Ctrl-C ends the running command or clears
the line, Ctrl-D ends the session. `h` lists the history, `r` runs the last line again, `r N` the
one with that number, `r TEXT` the last one that begins so.

.crashrc and .kmortemrc in $HOME and in the current directory are run first.";

const OUTPUT: &str = "\
  CMD | COMMAND       hands the answer to the host's shell; more pipes may follow
  CMD > FILE          writes the answer into FILE
  CMD >> FILE         adds it to FILE

Remarks and errors go to standard error; `set error redirect` sends them along with the answer,
`set error FILE` into a file. A pipe whose reader ends early is no error.

On a terminal, an answer that is longer than the screen goes through a pager: what KMORTEM_PAGER,
CRASHPAGER or PAGER names, else `less`. `set scroll off` (or `sf`) turns that off, `set scroll on`
(or `sn`) on again. `set radix 16` (or `hex`) makes numbers hexadecimal, `set radix 10` (or `dec`)
decimal. With --json each command writes one JSON object per row, through pipes and files too.";
