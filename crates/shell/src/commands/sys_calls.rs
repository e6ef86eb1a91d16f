//! `sys -c`: system calls.

use std::io::{self, Write};

use kmortem_kernel::syscall::SystemCall;

use super::failed;
use crate::address;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::settings::Radix;

pub(super) fn run(
    session: &Session,
    words: &[&str],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let calls = session.kernel().system_calls().map_err(failed("sys"))?;
    let chosen: Vec<&SystemCall> = match words {
        [] => calls.iter().collect(),
        words => words.iter().flat_map(|word| choose(&calls, word)).collect(),
    };
    if chosen.is_empty() {
        let what = format!("no system call is named or numbered {}", words.join(" or "));
        return Err(CommandError::Failed { command: "sys", what });
    }
    if out.is_json() {
        return Ok(out.rows(chosen)?);
    }
    Ok(render(out, &chosen, session.settings().radix)?)
}

/// The call of a number, or those with `word` in the name of their function.
fn choose<'c>(calls: &'c [SystemCall], word: &str) -> Vec<&'c SystemCall> {
    let number = address::number(word);
    let fits = |call: &&SystemCall| match number {
        Some(number) => u64::from(call.number) == number,
        None => function(call).contains(word),
    };
    calls.iter().filter(fits).collect()
}

/// The name of its function, as crash shows it.
fn function(call: &SystemCall) -> String {
    match &call.symbol {
        Some(s) if s.offset == 0 => s.name.clone(),
        Some(s) => format!("{}+{}", s.name, s.offset),
        None => format!("{:x}", call.function),
    }
}

fn render(out: &mut dyn Write, calls: &[&SystemCall], radix: Radix) -> io::Result<()> {
    writeln!(out, "NUM  SYSTEM CALL                FILE AND LINE NUMBER")?;
    for call in calls {
        match radix {
            Radix::Hex => write!(out, "{:>3x}  ", call.number)?,
            Radix::Decimal => write!(out, "{:>3}  ", call.number)?,
        }
        write!(out, "{:<26} ", function(call))?;
        match (call.replaced, call.symbol.as_ref().and_then(|s| s.module.as_ref())) {
            (true, Some(module)) => writeln!(out, "(replaced by module {module})")?,
            (true, None) => writeln!(out, "(replaced: not in the kernel's text)")?,
            _ => writeln!(out)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::symbol::SymbolAt;

    fn call(number: u32, name: &str, module: Option<&str>) -> SystemCall {
        SystemCall {
            number,
            name: None,
            function: 0xffff_ffff_8100_0000,
            symbol: Some(SymbolAt {
                name: name.into(),
                offset: 0,
                size: 8,
                module: module.map(str::to_owned),
            }),
            replaced: module.is_some(),
        }
    }

    #[test]
    fn replaced_calls_are_marked() {
        let calls = [
            call(0, "__x64_sys_read", None),
            call(1, "hooked_write", Some("rootkit")),
            call(156, "__x64_sys_ni_syscall", None),
        ];
        let all: Vec<&SystemCall> = calls.iter().collect();
        let mut out = Vec::new();
        render(&mut out, &all, Radix::Decimal).unwrap();
        render(&mut out, &all[2..], Radix::Hex).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace(" \n", " |\n"));
    }

    #[test]
    fn calls_are_chosen_by_number_or_part_of_the_name() {
        let calls = [call(0, "__x64_sys_read", None), call(19, "__x64_sys_readv", None)];
        let numbers = |word| choose(&calls, word).iter().map(|c| c.number).collect::<Vec<_>>();
        assert_eq!(numbers("read"), [0, 19]);
        assert_eq!(numbers("0x13"), [19]);
        assert_eq!(numbers("19"), [19]);
        assert!(numbers("write").is_empty());
    }
}
