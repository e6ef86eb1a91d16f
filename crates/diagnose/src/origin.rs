//! Where a bad pointer came from, read out of the machine code.
//!
//! From the faulting instruction backwards: which instruction filled the base
//! register, and from where: a global variable, a member of another object, an
//! argument (then the caller's code is asked in turn), a function's return
//! value. It is a reading of straight code, so every statement that can be
//! checked against the dead kernel's memory is, and says whether it was.

use kmortem_kernel::Kernel;
use kmortem_kernel::arch::RegisterSet;
use kmortem_kernel::instruction::{Access, Flow, Instruction};
use kmortem_kernel::stack::{Frame, base_name};
use kmortem_kernel::symbol::SymbolAt;
use serde::Serialize;

/// How many callers and members are followed.
const DEEPEST: usize = 4;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub(crate) enum Origin {
    /// A global variable.
    Global {
        /// Its name.
        symbol: String,
        /// Whether the dump still has the value there.
        confirmed: bool,
    },
    /// A member of an object.
    Member {
        /// Offset of the member.
        offset: i64,
        /// Where the object's address came from.
        of: Box<Origin>,
    },
    /// The function's own argument.
    Argument {
        /// 1 for the first.
        number: usize,
        /// Who passed it, and where that one had it from.
        passed: Option<(String, Box<Origin>)>,
    },
    /// What a function returned.
    Returned {
        /// The function.
        by: String,
    },
    /// A constant in the code.
    Constant,
    /// The code does not tell.
    Unknown,
}

impl Origin {
    /// In words, as the end of "rax ...". `None` when nothing is known.
    pub(crate) fn describe(&self) -> Option<String> {
        // Down to where it was first read; on the way, who handed it on.
        let mut by: Vec<&str> = Vec::new();
        let mut root = self;
        while let Origin::Argument { passed: Some((caller, origin)), .. } = root {
            by.push(caller);
            if **origin == Origin::Unknown {
                break;
            }
            root = origin;
        }
        let reader = by.last().copied();
        let by_reader = reader.map_or(String::new(), |r| format!(" by {r}"));
        let handed_on = match by.split_last() {
            Some((_, [])) | None => String::new(),
            Some((_, between)) => {
                let mut between = between.to_vec();
                between.reverse();
                format!(", then handed on by {}", between.join(" and "))
            }
        };
        let said = match root {
            Origin::Global { symbol, confirmed } => {
                let check = if *confirmed { " (which still holds it)" } else { "" };
                format!("was read{by_reader} from the variable {symbol}{check}")
            }
            Origin::Member { offset, of } => {
                let object = of.object().unwrap_or_else(|| "an object".into());
                format!("was read{by_reader} from offset {offset:#x} of {object}")
            }
            Origin::Argument { number, passed: None } => match reader {
                Some(reader) => format!("was the {} argument of {reader}", ordinal(*number)),
                None => format!("is the function's {} argument", ordinal(*number)),
            },
            Origin::Argument { .. } => format!("was passed by {}", reader?),
            Origin::Returned { by } => {
                let to = reader.map_or(String::new(), |r| format!(" to {r}"));
                format!("is what {by} returned{to}")
            }
            Origin::Constant => {
                let of = reader.map_or(String::new(), |r| format!(" of {r}"));
                format!("is a constant in the code{of}")
            }
            Origin::Unknown => return None,
        };
        Some(said + &handed_on)
    }

    /// As the object that a member belongs to.
    fn object(&self) -> Option<String> {
        Some(match self {
            Origin::Global { symbol, .. } => format!("what {symbol} points to"),
            Origin::Member { offset, of } => match of.object() {
                Some(object) => format!("what offset {offset:#x} of {object} points to"),
                None => return None,
            },
            Origin::Argument { number, passed: None } => {
                format!("its {} argument", ordinal(*number))
            }
            Origin::Argument { number, passed: Some((by, _)) } => {
                format!("its {} argument (from {by})", ordinal(*number))
            }
            Origin::Returned { by } => format!("what {by} returned"),
            Origin::Constant | Origin::Unknown => return None,
        })
    }

    /// The global variable at the root, if there is one.
    pub(crate) fn global(&self) -> Option<&str> {
        match self {
            Origin::Global { symbol, .. } => Some(symbol),
            Origin::Member { of, .. } => of.global(),
            Origin::Argument { passed: Some((_, origin)), .. } => origin.global(),
            _ => None,
        }
    }
}

fn ordinal(n: usize) -> &'static str {
    ["0th", "first", "second", "third", "fourth", "fifth", "sixth"].get(n).copied().unwrap_or("nth")
}

/// Where `register` of frame `at` had its value (`value`) from, before the
/// instruction at the frame's pc ran.
pub(crate) fn origin_of(
    kernel: &Kernel,
    frames: &[Frame],
    at: usize,
    register: &str,
    value: Option<u64>,
) -> Origin {
    follow(kernel, frames, at, register, value, 0)
}

fn follow(
    kernel: &Kernel,
    frames: &[Frame],
    at: usize,
    register: &str,
    value: Option<u64>,
    depth: usize,
) -> Origin {
    let Some(frame) = frames.get(at) else { return Origin::Unknown };
    let Some(symbol) = &frame.symbol else { return Origin::Unknown };
    let start = frame.pc.wrapping_sub(symbol.offset);
    let Ok(Some(mut code)) = kernel.instructions(start, frame.pc) else { return Origin::Unknown };
    // A return address: the call before it is what happens next.
    if !frame.is_interrupted() {
        code.pop();
    }
    match walk_back(kernel.arch().register_set(), &code, register) {
        Step::Load(instruction) => load(kernel, frames, at, &instruction, value, depth),
        Step::Returned(target) => match kernel.symbol_at(target) {
            Some(s) => Origin::Returned { by: base_name(&s.name).to_owned() },
            None => Origin::Unknown,
        },
        Step::Constant(_) => Origin::Constant,
        Step::FromStart(register) => argument(kernel, frames, at, symbol, &register, value, depth),
        Step::Lost => Origin::Unknown,
    }
}

/// What the backward walk through one function met.
#[derive(Debug, PartialEq)]
enum Step {
    /// The register was loaded by this instruction.
    Load(Box<Loaded>),
    /// It is what the function at this address returned.
    Returned(u64),
    /// A constant (`xor %eax,%eax`, `mov $0`, `adrp`), where the code names it.
    Constant(Option<u64>),
    /// This register, as it was when the function began.
    FromStart(String),
    /// Computed, or lost in a call.
    Lost,
}

#[derive(Debug, PartialEq)]
struct Loaded {
    base: Option<String>,
    displacement: i64,
    address: Option<u64>,
    position: usize,
}

fn walk_back(set: &RegisterSet, code: &[Instruction], register: &str) -> Step {
    let mut wanted = register.to_owned();
    for (position, instruction) in code.iter().enumerate().rev() {
        if matches!(instruction.flow, Flow::Call | Flow::Indirect) {
            if wanted == set.result {
                return instruction.target.map_or(Step::Lost, Step::Returned);
            }
            if set.scratch.contains(&wanted.as_str()) {
                return Step::Lost;
            }
            continue;
        }
        if !instruction.writes.contains(&wanted) {
            continue;
        }
        if let Some(source) = &instruction.moved_from {
            wanted = source.clone();
            continue;
        }
        let plain_load = ["mov", "ldr"].iter().any(|name| instruction.text.starts_with(name));
        return match instruction.memory.as_slice() {
            [m] if plain_load && m.access == Access::Read && m.index.is_none() => {
                // Per-CPU and thread-local data: no plain address.
                if m.segment.is_some() {
                    return Step::Lost;
                }
                Step::Load(Box::new(Loaded {
                    base: m.base.clone().filter(|b| b != "rip"),
                    displacement: m.displacement,
                    address: m.address.filter(|_| m.base.as_deref().is_none_or(|b| b == "rip")),
                    position,
                }))
            }
            [] if instruction.constant.is_some() || is_constant(&instruction.text) => {
                Step::Constant(instruction.constant)
            }
            _ => Step::Lost,
        };
    }
    Step::FromStart(wanted)
}

/// `xor %eax,%eax`, `mov $1,%eax`, `movabs $...,%rax`.
fn is_constant(text: &str) -> bool {
    let Some((name, operands)) = text.split_once(' ') else { return false };
    match operands.split_once(',') {
        Some((a, b)) if name.starts_with("xor") => a == b,
        Some((a, _)) => name.starts_with("mov") && a.starts_with('$'),
        None => false,
    }
}

fn load(
    kernel: &Kernel,
    frames: &[Frame],
    at: usize,
    loaded: &Loaded,
    value: Option<u64>,
    depth: usize,
) -> Origin {
    if let Some(address) = loaded.address {
        let Some(symbol) = kernel.symbol_at(address) else { return Origin::Unknown };
        let confirmed = value.is_some() && kernel.read_u64(address).ok() == value;
        return Origin::Global { symbol: variable_name(&symbol), confirmed };
    }
    let Some(base) = &loaded.base else { return Origin::Unknown };
    let set = kernel.arch().register_set();
    let is_frame = set.names.get(set.fp).is_some_and(|fp| fp == base);
    if is_frame || set.places.contains(&base.as_str()) || depth >= DEEPEST {
        // A local that was spilled to the stack: not followed.
        return Origin::Unknown;
    }
    // `adrp` and a load: the base is the page of a variable.
    if let Some(page) = constant_at(kernel, frames, at, loaded.position, base) {
        let address = page.wrapping_add_signed(loaded.displacement);
        let loaded = Loaded { address: Some(address), base: None, ..*loaded };
        return load(kernel, frames, at, &loaded, value, depth);
    }
    let of = base_at(kernel, frames, at, loaded.position, base, depth + 1);
    Origin::Member { offset: loaded.displacement, of: Box::new(of) }
}

/// The address of kernel memory that the code puts in a register, in the middle
/// of the function of frame `at`.
fn constant_at(
    kernel: &Kernel,
    frames: &[Frame],
    at: usize,
    position: usize,
    register: &str,
) -> Option<u64> {
    let frame = frames.get(at)?;
    let start = frame.pc.wrapping_sub(frame.symbol.as_ref()?.offset);
    let code = kernel.instructions(start, frame.pc).ok()??;
    match walk_back(kernel.arch().register_set(), code.get(..position)?, register) {
        Step::Constant(Some(page)) if page >> 63 == 1 => Some(page),
        _ => None,
    }
}

/// As `follow`, for a register in the middle of the function of frame `at`.
fn base_at(
    kernel: &Kernel,
    frames: &[Frame],
    at: usize,
    position: usize,
    register: &str,
    depth: usize,
) -> Origin {
    let Some(frame) = frames.get(at) else { return Origin::Unknown };
    let Some(symbol) = &frame.symbol else { return Origin::Unknown };
    let start = frame.pc.wrapping_sub(symbol.offset);
    let Ok(Some(code)) = kernel.instructions(start, frame.pc) else { return Origin::Unknown };
    match walk_back(kernel.arch().register_set(), code.get(..position).unwrap_or(&[]), register) {
        Step::Load(loaded) => load(kernel, frames, at, &loaded, None, depth),
        Step::Returned(target) => match kernel.symbol_at(target) {
            Some(s) => Origin::Returned { by: base_name(&s.name).to_owned() },
            None => Origin::Unknown,
        },
        Step::Constant(_) => Origin::Constant,
        Step::FromStart(register) => argument(kernel, frames, at, symbol, &register, None, depth),
        Step::Lost => Origin::Unknown,
    }
}

fn argument(
    kernel: &Kernel,
    frames: &[Frame],
    at: usize,
    symbol: &SymbolAt,
    register: &str,
    value: Option<u64>,
    depth: usize,
) -> Origin {
    // A cold part begins in the middle of its function.
    if symbol.name.contains(".cold") {
        return Origin::Unknown;
    }
    let set = kernel.arch().register_set();
    let Some(place) = set.arguments.iter().position(|a| *a == register) else {
        return Origin::Unknown;
    };
    let passed = frames
        .get(at + 1)
        .filter(|f| depth < DEEPEST && !f.is_interrupted() && f.symbol.is_some())
        .map(|caller| {
            let origin = follow(kernel, frames, at + 1, register, value, depth + 1);
            (caller.function().to_owned(), Box::new(origin))
        });
    Origin::Argument { number: place + 1, passed }
}

fn variable_name(symbol: &SymbolAt) -> String {
    let offset = if symbol.offset == 0 { String::new() } else { format!("+{:#x}", symbol.offset) };
    match &symbol.module {
        Some(module) => format!("{}{offset} [{module}]", base_name(&symbol.name)),
        None => format!("{}{offset}", base_name(&symbol.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::arch::Architecture;
    use kmortem_kernel::arch::x86_64::X86_64;
    use kmortem_kernel::arch::x86_64::registers::SET;

    fn code(bytes: &[u8]) -> Vec<Instruction> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let one = X86_64.decode(&bytes[at..], 0x1000 + at as u64, None).unwrap();
            at += one.length;
            found.push(one);
        }
        found
    }

    #[test]
    fn a_global_is_met_through_a_register_move() {
        // mov 0x10(%rip),%rax ; mov %rax,%rbx ; nop
        let code = code(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0x48, 0x89, 0xc3, 0x90]);
        match walk_back(&SET, &code, "rbx") {
            Step::Load(loaded) => assert_eq!(loaded.address, Some(0x1017)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_untouched_register_is_as_it_was_at_the_start() {
        // push %rbx ; mov %rdi,%rbx
        let code = code(&[0x53, 0x48, 0x89, 0xfb]);
        assert_eq!(walk_back(&SET, &code, "rbx"), Step::FromStart("rdi".into()));
    }

    #[test]
    fn a_call_makes_the_result_and_loses_the_rest() {
        // mov 0x8(%rdi),%rsi ; call 0x1009
        let code = code(&[0x48, 0x8b, 0x77, 0x08, 0xe8, 0, 0, 0, 0]);
        assert_eq!(walk_back(&SET, &code, "rax"), Step::Returned(0x1009));
        assert_eq!(walk_back(&SET, &code, "rsi"), Step::Lost);
        assert_eq!(walk_back(&SET, &code, "rbx"), Step::FromStart("rbx".into()));
    }

    #[test]
    fn a_computed_value_is_not_explained() {
        // mov 0x8(%rdi),%rax ; add %rdx,%rax
        let computed = code(&[0x48, 0x8b, 0x47, 0x08, 0x48, 0x01, 0xd0]);
        assert_eq!(walk_back(&SET, &computed, "rax"), Step::Lost);
        // xor %eax,%eax
        assert_eq!(walk_back(&SET, &code(&[0x31, 0xc0]), "rax"), Step::Constant(None));
    }

    #[test]
    fn a_chain_reads_as_a_sentence() {
        let passed = |by: &str, origin: Origin| Origin::Argument {
            number: 1,
            passed: Some((by.to_owned(), Box::new(origin))),
        };
        let member = Origin::Member {
            offset: 0x20,
            of: Box::new(Origin::Argument { number: 1, passed: None }),
        };
        assert_eq!(
            passed("expire", member).describe().unwrap(),
            "was read by expire from offset 0x20 of its first argument"
        );
        let global = Origin::Global { symbol: "current_session".into(), confirmed: true };
        assert_eq!(
            passed("update", passed("handle", global)).describe().unwrap(),
            "was read by handle from the variable current_session (which still holds it), then \
             handed on by update"
        );
        assert_eq!(passed("caller", Origin::Unknown).describe().unwrap(), "was passed by caller");
        assert_eq!(Origin::Unknown.describe(), None);
    }
}
