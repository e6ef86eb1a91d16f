//! Forms that a dump can be converted to, and their names.

use std::path::Path;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use kmortem_vmcore::Codec;

/// How the memory is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// kdump-compressed, with this codec.
    Kdump(Option<Codec>),
    /// ELF core.
    Elf,
    /// ELF core in large blocks of zstd.
    Archive,
    /// Raw memory.
    Raw,
    /// The same dump byte for byte, but for the flattening.
    Same,
}

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) layout: Layout,
    /// As a flattened stream.
    pub(super) flattened: bool,
}

/// Name, form, and what `--help` says of it.
const FORMS: &[(&str, Form, &str)] = &[
    ("kdump-zstd", kdump(Some(Codec::Zstd)), "kdump-compressed, zstd per page (levels 1 to 22)"),
    ("kdump-zlib", kdump(Some(Codec::Zlib)), "kdump-compressed, zlib per page (levels 1 to 9)"),
    ("kdump-lzo", kdump(Some(Codec::Lzo)), "kdump-compressed, lzo per page"),
    ("kdump-snappy", kdump(Some(Codec::Snappy)), "kdump-compressed, snappy per page"),
    ("kdump-raw", kdump(None), "kdump-compressed, pages as they are"),
    ("elf", plain(Layout::Elf), "ELF core; can be streamed"),
    ("archive", plain(Layout::Archive), "ELF core in a seekable zstd file: smallest, nothing lost"),
    ("raw", plain(Layout::Raw), "memory at its physical addresses, with a map beside it"),
    ("rearranged", plain(Layout::Same), "a flattened stream put in order, byte for byte"),
    ("flattened", flat(Layout::Same), "the same dump as a flattened stream, byte for byte"),
    ("flattened-kdump-zstd", flat(Layout::Kdump(Some(Codec::Zstd))), "as a flattened stream"),
    ("flattened-kdump-zlib", flat(Layout::Kdump(Some(Codec::Zlib))), "as a flattened stream"),
    ("flattened-kdump-lzo", flat(Layout::Kdump(Some(Codec::Lzo))), "as a flattened stream"),
    ("flattened-kdump-snappy", flat(Layout::Kdump(Some(Codec::Snappy))), "as a flattened stream"),
    ("flattened-kdump-raw", flat(Layout::Kdump(None)), "as a flattened stream"),
    ("flattened-elf", flat(Layout::Elf), "as a flattened stream"),
];

/// Ends of names that leave no doubt.
const ENDS: &[(&str, &str)] = &[
    ("elf", "elf"),
    ("kdump", "kdump-zstd"),
    ("zst", "archive"),
    ("flat", "flattened"),
    ("raw", "raw"),
];

const fn kdump(codec: Option<Codec>) -> Form {
    plain(Layout::Kdump(codec))
}

const fn plain(layout: Layout) -> Form {
    Form { layout, flattened: false }
}

const fn flat(layout: Layout) -> Form {
    Form { layout, flattened: true }
}

impl Form {
    /// The form that a file of this name is of.
    pub(super) fn guess(path: &Path) -> Option<Form> {
        let end = path.extension()?.to_str()?;
        let (_, name) = ENDS.iter().find(|(known, _)| *known == end)?;
        FORMS.iter().find(|(known, ..)| known == name).map(|(_, form, _)| *form)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        FORMS.iter().find(|(_, form, _)| *form == self).map_or("", |(name, ..)| name)
    }

    /// Whether it can be written in order, to a pipe.
    pub(super) fn can_stream(self) -> bool {
        self.flattened || matches!(self.layout, Layout::Elf | Layout::Archive)
    }
}

impl ValueEnum for Form {
    fn value_variants<'a>() -> &'a [Form] {
        const ALL: [Form; FORMS.len()] = {
            let mut all = [FORMS[0].1; FORMS.len()];
            let mut index = 0;
            while index < FORMS.len() {
                all[index] = FORMS[index].1;
                index += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, _, help) = FORMS.iter().find(|(_, form, _)| form == self)?;
        Some(PossibleValue::new(*name).help(*help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_one_name() {
        for (name, form, _) in FORMS {
            assert_eq!(form.name(), *name);
            assert_eq!(Form::from_str(name, false), Ok(*form));
        }
    }

    #[test]
    fn names_that_leave_no_doubt_give_the_form() {
        assert_eq!(Form::guess(Path::new("a/vmcore.elf")).map(Form::name), Some("elf"));
        assert_eq!(Form::guess(Path::new("x.flat")).map(Form::name), Some("flattened"));
        assert_eq!(Form::guess(Path::new("vmcore")), None);
        assert_eq!(Form::guess(Path::new("vmcore.1")), None);
    }
}
