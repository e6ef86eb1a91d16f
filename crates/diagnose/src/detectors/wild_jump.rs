//! A call or jump through a bad function pointer: the CPU went where no code is.
//!
//! Mechanism: the target is not mapped, not executable, or not code; the fault
//! comes with the instruction pointer itself as its address. Evidence: the
//! exception frame's instruction pointer lies in no text, and the return
//! address of the call is at the top of the stack. Refuted by: an instruction
//! pointer in a function (then the pointer of that instruction is bad, not the
//! jump's). Kernels: all; with CONFIG_CFI the check before the call traps
//! instead. Reference: arch/x86/mm/fault.c.

use crate::case::Case;
use crate::exception::Trap;
use crate::fault::{Fault, short};
use crate::finding::{Advice, Finding, Kind, Level, Source};

use super::common::{
    add_log, arrow, blame_module, chain, crashed_stack, look_at, module_on, oops_to_panic,
};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let crashed = case.crashed.as_ref()?;
    let fault = Fault::of_crash(case)?;
    let exception = crashed.fault()?;
    let ip = fault.ip?;
    if !fault.function.is_empty() || fault.trap == Trap::DoubleFault {
        return None;
    }
    let target = crate::address::judge(ip, None, &[]).describe();
    let caller = crashed.stack.frames.get(exception.frame + 1);
    let symbol = caller.and_then(|f| f.symbol.as_ref());
    let mut finding = Finding::new(Kind::WildJump, "", Level::Certain, "");
    finding.cause = match symbol {
        Some(symbol) => {
            let above = exception.frame + 1;
            let callers = crate::fault::callers(&crashed.stack, above);
            let callers = match callers.is_empty() {
                true => String::new(),
                false => format!(" (called by {})", arrow(&callers, 2)),
            };
            format!(
                "{}{callers} called a function at {ip:#x}, where no code is: {target}. The \
                 function pointer was overwritten or never set.",
                short(symbol)
            )
        }
        None => format!("The kernel jumped to {ip:#x}, where no code is: {target}."),
    };
    finding.cause += &format!(" It ran in {} ({}). ", crashed.task.comm, crashed.task.pid);
    finding.cause += &oops_to_panic(case);
    finding.confidence.reason = match symbol {
        Some(_) => {
            "the instruction pointer is in no code, and the call's return address is on the stack"
                .into()
        }
        None => {
            finding.confidence.level = Level::Likely;
            "the instruction pointer is in no code; who jumped is not on the stack".into()
        }
    };
    finding.task = fault.task.clone();
    finding.functions = chain(&crashed.stack, exception.frame);
    add_log(case, &mut finding, case.own_oops());
    finding.proof(Source::Registers, format!("{} = {ip:#x}", program_counter(exception)));
    if let (Some(kernel), Some(caller)) = (case.kernel(), caller)
        && let Some(call) = call_before(kernel, caller.pc, symbol.map_or(0, |s| s.offset))
    {
        finding.proof(
            Source::Code,
            format!("before {}: {call}", symbol.map_or_else(String::new, short)),
        );
    }
    finding.against.extend(fault.disagreements.iter().cloned());
    blame_module(case, &mut finding, module_on(&crashed.stack, exception.frame));
    let mut section = crashed_stack(crashed, "STACK", "no code here");
    if let crate::finding::Section::Stack { stack, .. } = &mut section {
        stack.note(exception.frame + 1, "called it");
    }
    finding.sections.push(section);
    finding.next.push(Advice::words(match symbol {
        Some(symbol) => format!(
            "look at the structure whose function pointer {} calls: who writes it?",
            kmortem_kernel::stack::base_name(&symbol.name)
        ),
        None => "look for an overwritten return address or function pointer".into(),
    }));
    finding.next.push(look_at(crashed.task.pid));
    Some(finding)
}

/// The name of the program counter.
fn program_counter(exception: &crate::exception::Exception) -> &'static str {
    let set = exception.registers.set();
    set.names.get(set.pc).copied().unwrap_or("pc")
}

/// The call instruction that ends at `pc`.
fn call_before(kernel: &kmortem_kernel::Kernel, pc: u64, offset: u64) -> Option<String> {
    let code = kernel.instructions(pc.checked_sub(offset)?, pc).ok()??;
    code.last().map(|call| crate::fault::annotated(Some(kernel), call))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const STACK: [&str; 6] = [
        "panic",
        "oops_end",
        "page_fault_oops",
        "asm_exc_page_fault",
        "-",
        "crasher:crasher_wild_call",
    ];

    #[test]
    fn the_caller_is_named() {
        let case =
            case("1.0 Kernel panic - not syncing: Fatal exception", "insmod", &STACK, Some(4));
        let finding = detect(&case).unwrap();
        assert!(
            finding.cause.starts_with("crasher_wild_call+0x10 [crasher] called"),
            "{}",
            finding.cause
        );
        assert_eq!(finding.functions[0], "crasher:crasher_wild_call");
    }

    #[test]
    fn a_fault_inside_a_function_is_no_wild_jump() {
        let mut stack = STACK;
        stack[4] = "f";
        let case =
            case("1.0 Kernel panic - not syncing: Fatal exception", "insmod", &stack, Some(4));
        assert!(detect(&case).is_none());
    }
}
