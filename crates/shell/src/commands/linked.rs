//! What `list` and `tree` show of each structure that they find.

use std::io::Write;

use kmortem_kernel::layout::place_of;
use kmortem_kernel::{Kernel, Object};

use super::failed;
use crate::address::number;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::value::{Reader, Shown, Style, members_exist};

/// The structures and members that -s and -S name.
pub(super) struct Members<'a> {
    command: &'static str,
    wanted: Vec<Wanted<'a>>,
}

struct Wanted<'a> {
    ty: &'a str,
    members: Vec<String>,
    /// -S
    bare: bool,
}

impl<'a> Members<'a> {
    pub(super) fn of(
        command: &'static str,
        kernel: &Kernel,
        args: &'a Args,
    ) -> Result<Members<'a>, CommandError> {
        let mut wanted = Vec::new();
        let named = args.values('s').map(|word| (word, false));
        for (word, bare) in named.chain(args.values('S').map(|word| (word, true))) {
            let (ty, members) = word.split_once('.').unwrap_or((word, ""));
            let members: Vec<String> =
                members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
            let known = kernel.ty(ty).map_err(failed(command))?;
            let names: Vec<&str> = members.iter().map(String::as_str).collect();
            members_exist(known, &names).map_err(failed(command))?;
            wanted.push(Wanted { ty, members, bare });
        }
        Ok(Members { command, wanted })
    }

    /// What is shown of the structure at `addr`.
    pub(super) fn shown(
        &self,
        mut reader: Reader<'_>,
        addr: u64,
    ) -> Result<Vec<Shown>, CommandError> {
        let kernel = reader.kernel();
        // -S reads what is there, whatever `set print_max` says.
        let mut whole = Reader::for_json(kernel);
        let show = |Wanted { ty, members, bare }: &Wanted<'_>| {
            let object = Object::new(kernel, addr, kernel.ty(ty)?);
            let names: Vec<&str> = members.iter().map(String::as_str).collect();
            match names.is_empty() {
                true => Ok(Shown::whole(&mut reader, &object)),
                false if *bare => Shown::members(&mut whole, &object, &names).map(Shown::bare),
                false => Shown::members(&mut reader, &object, &names),
            }
        };
        self.wanted.iter().map(show).collect::<Result<_, _>>().map_err(failed(self.command))
    }
}

pub(super) fn render(out: &mut Output<'_>, shown: &[Shown], style: Style) -> std::io::Result<()> {
    shown.iter().try_for_each(|shown| shown.render(&mut *out as &mut dyn Write, style))
}

/// An offset as typed: `struct.member`, or a number of bytes.
pub(super) fn offset(
    command: &'static str,
    kernel: &Kernel,
    word: &str,
) -> Result<u64, CommandError> {
    if let Some(bytes) = number(word) {
        return Ok(bytes);
    }
    let usage = |what: String| CommandError::Usage { command, what };
    let (ty, member) = word
        .split_once('.')
        .ok_or_else(|| usage(format!("{word} is neither struct.member nor a number of bytes")))?;
    let known = kernel.ty(ty).map_err(failed(command))?;
    place_of(known.strip(), member).map(|place| place.offset).ok_or_else(|| CommandError::Failed {
        command,
        what: format!("{ty} has no member {member}"),
    })
}
