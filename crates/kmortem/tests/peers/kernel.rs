//! What the kernel crate finds: symbols, types, tasks, stacks, log, modules,
//! mounts, interfaces and disks. Where drgn may differ the reason stands here:
//!
//! - Below the entry from user space drgn goes on into frames that no code
//!   pushed (no symbol there): kmortem's stack ends before them.
//! - After a jump to a bad address, and in the init text of a module, drgn
//!   loses the way: it takes some word for a return address that no address of
//!   the kernel looks like. kmortem's stack may be longer then; drgn's must be
//!   its beginning, and its own end must be sound.
//! - On arm64, where a function that has no frame of its own met an exception,
//!   its caller is in the link register alone. drgn knows that by debug
//!   information, which it has of modules only where they were given to it, and
//!   goes on with the caller's caller.
//! - The stack of a zombie has been given back: drgn takes what lies there now
//!   for frames.
//! - drgn does not move absolute symbols of vmlinux by the KASLR offset.

use std::collections::{BTreeMap, BTreeSet};

use kmortem_kernel::Kernel;
use kmortem_kernel::stack::{Stack, StackEnd};
use serde_json::Value;

/// What is wrong on one dump.
pub(crate) fn compare(kernel: &Kernel, drgn: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    symbols(kernel, &drgn["symbols"], &mut wrong);
    types(kernel, &drgn["types"], &mut wrong);
    tasks(kernel, &drgn["tasks"], &mut wrong);
    log(kernel, &drgn["log"], &mut wrong);
    named(kernel, drgn, &mut wrong);
    wrong
}

/// The rows of an array, none of anything else.
fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// kallsyms leaves out what is no symbol of the running kernel (sections of
/// the ELF file, absolute and local labels): of the rest every address counts.
fn symbols(kernel: &Kernel, drgn: &Value, wrong: &mut Vec<String>) {
    let Ok(kallsyms) = kernel.kallsyms() else { return wrong.push("no kallsyms".into()) };
    let mut compared = 0;
    for row in rows(drgn) {
        let (name, addr) = (text(&row[0]), row[1].as_u64().unwrap_or(0));
        let ours = kallsyms.find_all(name);
        let absolute = !kernel.space().image_range().contains(&addr);
        if ours.is_empty() || absolute {
            continue;
        }
        compared += 1;
        if !ours.contains(&addr) {
            wrong.push(format!("symbol {name}: {addr:#x} for drgn, {ours:x?} here"));
        }
    }
    // Half of them are data.
    let least = if kernel.lists_data() { 1000 } else { 700 };
    if compared < least {
        wrong.push(format!("only {compared} symbols to compare"));
    }
}

fn types(kernel: &Kernel, drgn: &Value, wrong: &mut Vec<String>) {
    let mut compared = 0;
    for (name, theirs) in drgn.as_object().into_iter().flatten() {
        let Ok(ty) = kernel.ty(&format!("struct {name}")) else {
            continue;
        };
        compared += 1;
        if ty.size() != theirs["size"].as_u64() {
            wrong.push(format!("sizeof(struct {name}): {} drgn, {:?}", theirs["size"], ty.size()));
        }
        for member in rows(&theirs["members"]) {
            let path = text(&member[0]);
            let ours = ty.member(path).map(|m| (m.bit_offset, m.bit_size.map(u64::from)));
            let theirs = (member[1].as_u64().unwrap_or(u64::MAX), member[2].as_u64());
            if ours != Some(theirs) {
                wrong.push(format!("struct {name}.{path}: {theirs:?} for drgn, {ours:?} here"));
            }
        }
    }
    if compared < 60 {
        wrong.push(format!("only {compared} types to compare"));
    }
}

fn tasks(kernel: &Kernel, drgn: &Value, wrong: &mut Vec<String>) {
    let table = match kernel.tasks() {
        Ok(table) => table,
        Err(e) => return wrong.push(format!("no tasks: {e}")),
    };
    let theirs: BTreeSet<u64> = rows(drgn).iter().filter_map(|t| t["addr"].as_u64()).collect();
    let ours: BTreeSet<u64> = table.list.iter().filter(|t| t.pid != 0).map(|t| t.addr).collect();
    if ours != theirs {
        let only_ours: Vec<_> = ours.difference(&theirs).collect();
        let only_theirs: Vec<_> = theirs.difference(&ours).collect();
        wrong.push(format!("tasks: only here {only_ours:x?}, only drgn {only_theirs:x?}"));
    }
    for row in rows(drgn) {
        let Some(task) = row["addr"].as_u64().and_then(|addr| table.at(addr)) else { continue };
        let ours = (i64::from(task.pid), i64::from(task.tgid), task.comm.as_str());
        let theirs = (
            row["pid"].as_i64().unwrap_or(-1),
            row["tgid"].as_i64().unwrap_or(-1),
            text(&row["comm"]),
        );
        if ours != theirs {
            wrong.push(format!("task {:#x}: {theirs:?} for drgn, {ours:?} here", task.addr));
        }
        if !text(&row["state"]).starts_with(task.state.letter()) {
            wrong.push(format!("state of {ours:?}: {} drgn, {:?}", row["state"], task.state));
        }
        if task.stack == 0 {
            let frames = kernel.stack(task).frames;
            if !frames.is_empty() {
                wrong.push(format!("stack of {ours:?}: it has none, {frames:x?} here"));
            }
        } else if let Err(e) = same_stack(&kernel.stack(task), &row["stack"]) {
            wrong.push(format!("stack of {ours:?}: {e}"));
        }
    }
}

fn same_stack(ours: &Stack, drgn: &Value) -> Result<(), String> {
    if let StackEnd::Broken { reason } = &ours.end {
        return Err(format!("broken here: {reason}"));
    }
    let rows = rows(&drgn["frames"]);
    let is_kernel = |pc: &u64| pc >> 47 == 0x1ffff || pc >> 56 == 0xff;
    let theirs: Vec<u64> =
        rows.iter().filter_map(|f| f[0].as_u64()).take_while(is_kernel).collect();
    let stack = ours;
    let mut ours: Vec<u64> = stack.frames.iter().map(|f| f.pc).collect();
    if !theirs.starts_with(&ours) {
        let mut i = 0..;
        ours.retain(|_| i.next().is_some_and(|i| !in_link_register(stack, i)));
    }
    let common = ours.len().min(theirs.len());
    if ours[..common] != theirs[..common] {
        return Err(format!("{theirs:x?} for drgn, {ours:x?} here"));
    }
    // What drgn has beyond our end must be no code of the kernel.
    match rows.get(common).map(|f| &f[1]) {
        Some(Value::String(name)) => Err(format!("drgn goes on in {name}: {ours:x?}")),
        _ => Ok(()),
    }
}

/// Frame `i` is the caller of a module's function that an exception stopped, by
/// the link register.
fn in_link_register(stack: &Stack, i: usize) -> bool {
    let Some(stopped) = i.checked_sub(1).map(|before| &stack.frames[before]) else { return false };
    let link = stopped.registers.as_ref().and_then(|registers| registers.named("x30"));
    let module = stopped.symbol.as_ref().is_some_and(|symbol| symbol.module.is_some());
    // Its upper bits may hold a signature.
    let address = |pc: u64| pc & ((1 << 47) - 1);
    module && link.map(address) == Some(address(stack.frames[i].pc))
}

fn log(kernel: &Kernel, drgn: &Value, wrong: &mut Vec<String>) {
    if drgn.get("error").is_some() {
        return;
    }
    let ours = match kernel.log() {
        Ok(log) => log,
        Err(e) => return wrong.push(format!("no log: {e}")),
    };
    let ours: Vec<(u64, &str)> =
        ours.records.iter().map(|r| (r.ts_ns, r.text.trim_end_matches('\n'))).collect();
    let theirs: Vec<(u64, &str)> = rows(drgn)
        .iter()
        .map(|r| (r[0].as_u64().unwrap_or(0), text(&r[2]).trim_end_matches('\n')))
        .collect();
    if ours != theirs {
        let first = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        let at = first.unwrap_or(ours.len().min(theirs.len()));
        wrong.push(format!(
            "log record {at} of {}/{}: {:?} for drgn, {:?} here",
            theirs.len(),
            ours.len(),
            theirs.get(at),
            ours.get(at)
        ));
    }
}

fn known(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or("<unreadable>")
}

/// Lists of (address, name), where order does not matter.
fn named(kernel: &Kernel, drgn: &Value, wrong: &mut Vec<String>) {
    let mut compare = |what: &str, ours: Option<BTreeSet<String>>, drgn: &Value| {
        if drgn.get("error").is_some() {
            return;
        }
        let theirs: BTreeSet<String> = rows(drgn)
            .iter()
            .map(|row| match row {
                Value::String(name) => name.clone(),
                row => format!("{:#x} {}", row[0].as_u64().unwrap_or(0), text(&row[1])),
            })
            .collect();
        if ours.as_ref() != Some(&theirs) {
            wrong.push(format!("{what}: {theirs:?} for drgn, {ours:?} here"));
        }
    };
    let modules = kernel.modules().ok().map(|m| m.iter().map(|m| m.name.clone()).collect());
    compare("modules", modules, &drgn["modules"]);
    let mounts = kernel.mounts().ok();
    let mounts = mounts
        .map(|m| m.list.iter().map(|m| format!("{:#x} {}", m.addr, known(&m.fs_type))).collect());
    compare("mounts", mounts, &drgn["mounts"]);
    let interfaces = kernel.interfaces().ok();
    let interfaces = interfaces
        .map(|all| all.list.iter().map(|i| format!("{:#x} {}", i.addr, known(&i.name))).collect());
    compare("interfaces", interfaces, &drgn["netdevs"]);
    let disks = kernel.disks().ok();
    let disks = disks
        .map(|all| all.list.iter().map(|d| format!("{:#x} {}", d.addr, known(&d.name))).collect());
    compare("disks", disks, &drgn["disks"]);
    let caches: Option<BTreeMap<String, u64>> = kernel
        .slab_caches()
        .ok()
        .map(|all| all.into_iter().map(|c| (c.name, u64::from(c.object_size))).collect());
    if drgn["slab_caches"].get("error").is_none() {
        let theirs: BTreeMap<String, u64> = rows(&drgn["slab_caches"])
            .iter()
            .map(|row| (text(&row[0]).to_owned(), row[1].as_u64().unwrap_or(0)))
            .collect();
        if caches.as_ref() != Some(&theirs) {
            wrong.push(format!("slab caches: {theirs:?} for drgn, {caches:?} here"));
        }
    }
}
