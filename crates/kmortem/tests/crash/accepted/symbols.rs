//! Symbols, and code.

use super::{Accepted, hex};
use crate::normal::NOTHING;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["sym -l", "sym -M"],
        explain: |hunk| {
            let about = &hunk.about;
            let place = |line: &String| line.split_once(' ').and_then(|(at, _)| hex(at));
            hunk.kmortem.retain(|line| !place(line).is_some_and(|at| about.is_module_init(at)));
        },
        documented: "functions of a module that is still starting",
    },
    Accepted {
        commands: &["sym -l"],
        explain: |hunk| {
            hunk.take_pairs(|crash, kmortem| {
                // An offset in each CPU's area.
                let low = crash.split_once(' ').and_then(|(at, _)| hex(at));
                low.is_some_and(|at| at < 1 << 30) && crash.replacen("(d)", "(D)", 1) == kmortem
            });
        },
        documented: "`sym -l`: `d` for per-CPU variables of one file, `D` for others",
    },
    Accepted {
        commands: &["sym -l"],
        explain: |hunk| {
            let first = hunk.about.symbol("_text").map(|at| format!("{at:x} (t) __pfx_"));
            if let (Some(first), true) = (first, hunk.crash.is_empty()) {
                hunk.kmortem.retain(|line| !line.starts_with(&first));
            }
        },
        documented: "`sym -l`: the padding before the kernel's first function has no symbol",
    },
    Accepted {
        commands: &["dis entry_SYSCALL_64"],
        explain: |hunk| {
            if hunk.kmortem.is_empty() {
                const LABELS: [&str; 3] =
                    [" <entry_SYSCALL_64_", " <entry_SYSRETQ_", " <syscall_return_via_sysret"];
                hunk.crash.retain(|line| !LABELS.iter().any(|label| line.contains(label)));
            }
        },
        documented: "ends at a label that is aligned like a function",
    },
    Accepted {
        commands: &["dis common_interrupt_return"],
        explain: |hunk| {
            // 5.10: `native_iret` is such a label, with padding before it.
            const END: [&str; 3] = [">:\tnop", ">:\txchg   %ax,%ax", " <native_iret>:\tiretq"];
            if hunk.kmortem.is_empty() && hunk.crash.len() <= END.len() {
                hunk.crash.retain(|line| !END.iter().any(|end| line.ends_with(end)));
            }
        },
        documented: "ends at a label that is aligned like a function",
    },
    Accepted {
        commands: &["dis start_kernel"],
        explain: |hunk| {
            // Functions are aligned to 16 bytes.
            if hunk.crash.is_empty() && hunk.kmortem.len() < 16 {
                hunk.kmortem.retain(|line| !line.ends_with(">:\tint3"));
            }
        },
        documented: "`dis` of init code that the kernel has given back",
    },
    Accepted {
        commands: &["sym -n*"],
        explain: |hunk| {
            // The next symbol, where crash has one of the table itself.
            if hunk.crash.iter().all(|line| line.contains(" kallsyms_")) && hunk.kmortem.len() == 1
            {
                hunk.crash.clear();
                hunk.kmortem.clear();
            }
        },
        documented: "symbols of the file only, such as `.LC0`",
    },
    Accepted {
        commands: &["dis -x -f schedule+20 4"],
        explain: |hunk| {
            let here = |line: &String| line.contains(" <schedule+0x");
            if hunk.crash.iter().chain(&hunk.kmortem).all(here) {
                hunk.crash.clear();
                hunk.kmortem.clear();
            }
        },
        documented: "`dis -f` of an address inside an instruction",
    },
    Accepted {
        commands: &["tree -t radix irq_desc_tree*"],
        explain: |hunk| {
            if hunk.crash == [NOTHING] {
                let is_entry = |line: &str| hex(line).is_some() || line.starts_with("  index: ");
                hunk.kmortem.retain(|line| !is_entry(line));
                hunk.crash.clear();
            }
        },
        documented: "`tree -t radix` refuses trees of today's kernels",
    },
    Accepted {
        commands: &["dis {modbase}"],
        explain: |hunk| {
            if hunk.kmortem.is_empty() {
                hunk.crash.retain(|line| !line.ends_with(":\tint3") && !line.contains(":\tnop"));
            }
        },
        documented: "`dis` of a module's function shows the padding behind it",
    },
    Accepted {
        commands: &["search *"],
        explain: |hunk| {
            // The 2 GB that the kernel's image is mapped in, which crash reads through.
            let about = &hunk.about;
            hunk.crash.retain(|line| {
                let at = line.split_once(": ").and_then(|(at, _)| hex(at));
                !at.is_some_and(|at| at >= 0xffff_ffff_8000_0000 && !about.maps(at))
            });
        },
        documented: "at addresses of the kernel's image that map nothing",
    },
    Accepted {
        commands: &["search -h -k dead"],
        explain: |hunk| {
            if hunk.crash.is_empty() {
                hunk.kmortem.retain(|line| !line.ends_with(": dead"));
            }
        },
        documented: "memory of a dump beside RAM",
    },
    Accepted {
        commands: &["sym*"],
        explain: |hunk| hunk.crash.retain(|line| !is_left_out(line)),
        documented: "symbols of the file only",
    },
];

/// Tables of symbols, and copies of the linker's.
const LEFT_OUT: [&str; 6] =
    ["kallsyms_", "__ksymtab", "__kcrctab", "__kstrtab", "__crc_", "init_per_cpu__"];

/// Sections whose names do not begin with a dot.
const SECTIONS: [&str; 8] = [
    "__bug_table",
    "__ex_table",
    "__init_rodata",
    "__modver",
    "__param",
    "runtime_ptr_USER_PTR_MAX",
    "runtime_ptr_dentry_hashtable",
    "runtime_shift_d_hash_shift",
];

/// What the file of a kernel or module names, and the kernel does not keep
/// (scripts/mksysmap, scripts/kallsyms.c): local labels, tables of symbols, sections.
fn is_left_out(line: &str) -> bool {
    let Some((_, name)) = line.split_once(") ") else { return false };
    name.starts_with('.')
        || LEFT_OUT.iter().any(|start| name.starts_with(start))
        || SECTIONS.contains(&name)
}
