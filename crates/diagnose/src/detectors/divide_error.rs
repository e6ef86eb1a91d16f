//! Division by zero, or a quotient that does not fit, in kernel code.
//!
//! Mechanism: `div`/`idiv` raises #DE. Evidence: the exception frame, and the
//! divisor register (or memory) being zero. Refuted by: a divisor that is not
//! zero (then the quotient overflowed, which is said). Kernels: all.
//! Reference: arch/x86/kernel/traps.c.

use crate::case::Case;
use crate::exception::Trap;
use crate::fault::Fault;
use crate::finding::{Advice, Finding, Kind, Level, Source};

use super::common::{
    add_log, arrow, blame_module, chain, crashed_stack, look_at, module_on, oops_to_panic,
};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let crashed = case.crashed.as_ref()?;
    let fault = Fault::of_crash(case).filter(|f| f.trap == Trap::DivideError)?;
    let exception = crashed.fault()?;
    let divisor = fault.instruction.as_ref().ok().and_then(|text| divisor(text));
    let value = divisor.as_deref().and_then(|name| exception.register(full_name(name)?));
    let value = value.zip(divisor.as_deref()).map(|(v, name)| narrow(v, name));
    let what = match (&divisor, value) {
        (Some(name), Some(0)) => format!("divided by zero: the divisor, {name}, is 0"),
        (Some(name), Some(v)) => {
            format!("divided and the result does not fit its register ({name} = {v:#x})")
        }
        _ => "divided by zero".to_owned(),
    };
    let called = match fault.callers.is_empty() {
        true => String::new(),
        false => format!(", called by {},", arrow(&fault.callers, 3)),
    };
    let context = fault.context.as_ref().map_or(String::new(), |c| format!(", {}", c.describe()));
    let mut finding = Finding::new(
        Kind::DivideError,
        format!(
            "{}{called} {what}. It ran in {} ({}){context}. {}",
            fault.location,
            crashed.task.comm,
            crashed.task.pid,
            oops_to_panic(case)
        ),
        Level::Certain,
        "the processor stopped at this very instruction",
    );
    finding.task = fault.task.clone();
    finding.functions = chain(&crashed.stack, exception.frame);
    add_log(case, &mut finding, case.own_oops());
    match &fault.instruction {
        Ok(text) => finding.proof(Source::Code, format!("{}: {text}", fault.location)),
        Err(why) => finding.against.push(format!("the instruction can't be read: {why}")),
    }
    if let (Some(name), Some(value)) = (&divisor, value) {
        finding.proof(Source::Registers, format!("{name} = {value:#x}"));
    }
    finding.against.extend(fault.disagreements.iter().cloned());
    blame_module(case, &mut finding, module_on(&crashed.stack, exception.frame));
    finding.sections.push(crashed_stack(crashed, "STACK", "the division"));
    finding.next.push(Advice::words(format!(
        "{} needs a check of its divisor before it divides",
        fault.function
    )));
    finding.next.push(look_at(crashed.task.pid));
    Some(finding)
}

/// The operand of "divq %rcx": a register's name.
fn divisor(text: &str) -> Option<String> {
    let (name, operand) = text.split_once(' ')?;
    if !name.contains("div") {
        return None;
    }
    operand.trim().strip_prefix('%').map(str::to_owned)
}

/// The 64-bit register that `name` is a part of, as the kernel's frames name it.
fn full_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "rax" | "eax" | "ax" | "al" => "rax",
        "rbx" | "ebx" | "bx" | "bl" => "rbx",
        "rcx" | "ecx" | "cx" | "cl" => "rcx",
        "rdx" | "edx" | "dx" | "dl" => "rdx",
        "rsi" | "esi" | "si" | "sil" => "rsi",
        "rdi" | "edi" | "di" | "dil" => "rdi",
        "rbp" | "ebp" | "bp" | "bpl" => "rbp",
        "r8" | "r8d" | "r8w" => "r8",
        "r9" | "r9d" | "r9w" => "r9",
        "r10" | "r10d" | "r10w" => "r10",
        "r11" | "r11d" | "r11w" => "r11",
        "r12" | "r12d" | "r12w" => "r12",
        "r13" | "r13d" | "r13w" => "r13",
        "r14" | "r14d" | "r14w" => "r14",
        "r15" | "r15d" | "r15w" => "r15",
        _ => return None,
    })
}

/// The part of a 64-bit value that `name` stands for.
fn narrow(value: u64, name: &str) -> u64 {
    let thirty_two = name.starts_with('e') || name.ends_with('d');
    if thirty_two { value & 0xffff_ffff } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divisor_is_read_from_the_instruction() {
        assert_eq!(divisor("divq %rcx").as_deref(), Some("rcx"));
        assert_eq!(divisor("idivl %r8d").as_deref(), Some("r8d"));
        assert_eq!(divisor("divq 8(%rdi)"), None);
        assert_eq!(divisor("movq %rcx,%rax"), None);
    }

    #[test]
    fn half_a_register_is_half_its_value() {
        assert_eq!(narrow(0xffff_ffff_0000_0000, "ecx"), 0);
        assert_eq!(narrow(0xffff_ffff_0000_0000, "rcx"), 0xffff_ffff_0000_0000);
        assert_eq!(full_name("r8d"), Some("r8"));
    }
}
