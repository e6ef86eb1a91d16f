//! A fault of the CPU in kernel code, put together from its witnesses: the
//! exception frame, the decoded instruction, the code that made the pointer,
//! the stack below, and the oops in the log.

use std::ops::Range;

use kmortem_kernel::Kernel;
use kmortem_kernel::instruction::{Access, Instruction};
use kmortem_kernel::stack::{Stack, base_name};
use kmortem_kernel::symbol::SymbolAt;

use crate::address::{Looks, judge};
use crate::case::{Case, Crashed};
use crate::context::{Context, context_of};
use crate::exception::{Exception, Trap};
use crate::oops::{Incident, IncidentKind};
use crate::origin::{Origin, origin_of};

/// What memory the instruction wanted.
#[derive(Debug, Clone)]
pub(crate) struct Touched {
    /// The address.
    pub address: u64,
    /// What it looks like.
    pub looks: Looks,
    /// What the instruction did there; unknown when only the log speaks.
    pub access: Option<(Access, u64)>,
    /// The base register and its value.
    pub register: Option<(String, u64)>,
    /// Where that register's value came from.
    pub origin: Origin,
}

/// A fault.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// Which exception.
    pub trap: Trap,
    /// Where: "f+0x5 [module]"; an address where no function is.
    pub location: String,
    /// The function, without compiler suffixes; empty where there is none.
    pub function: String,
    /// Its module.
    pub module: Option<String>,
    /// Instruction pointer, where known.
    pub ip: Option<u64>,
    /// The instruction's text, or why it can't be read.
    pub instruction: Result<String, String>,
    /// Memory it wanted.
    pub touched: Option<Touched>,
    /// PID and name of the task on the CPU.
    pub task: Option<(i32, String)>,
    /// In whose name the code ran.
    pub context: Option<Context>,
    /// Callers, innermost first, by name.
    pub callers: Vec<String>,
    /// Where the witnesses disagree.
    pub disagreements: Vec<String>,
}

impl Fault {
    /// The fault that the crashed task's kernel was dying of.
    pub(crate) fn of_crash(case: &Case<'_>) -> Option<Fault> {
        let crashed = case.crashed.as_ref()?;
        let exception = crashed.fault()?;
        let oops = case.own_oops();
        let mut fault = from_exception(case.kernel(), crashed, exception, oops);
        if let Some(oops) = oops {
            fault.disagreements.extend(compare(&fault, oops));
        }
        Some(fault)
    }

    /// The fault that an oops in the log tells of.
    pub(crate) fn of_oops(incident: &Incident) -> Option<Fault> {
        let trap = match incident.kind {
            IncidentKind::NullDeref | IncidentKind::PageFault => Trap::PageFault,
            IncidentKind::GeneralProtection => Trap::GeneralProtection,
            IncidentKind::DivideError => Trap::DivideError,
            IncidentKind::InvalidOpcode => Trap::InvalidOpcode,
            IncidentKind::DoubleFault | IncidentKind::StackOverflow => Trap::DoubleFault,
            IncidentKind::OtherException => Trap::Other,
            // What a BUG stopped (list and slab checks).
            _ if incident.oops_number.is_some() => Trap::InvalidOpcode,
            _ => return None,
        };
        let (location, function, module) = match (&incident.rip, incident.raw_rip) {
            (Some(rip), _) => {
                (rip.to_string(), base_name(&rip.function).to_owned(), rip.module.clone())
            }
            (None, Some(raw)) => (format!("{raw:#x}"), String::new(), None),
            (None, None) => ("an unknown place".into(), String::new(), None),
        };
        let touched = logged_address(incident).map(|address| Touched {
            address,
            looks: judge(address, None, &[]),
            access: None,
            register: None,
            origin: Origin::Unknown,
        });
        Some(Fault {
            trap,
            location,
            function,
            module,
            ip: incident.raw_rip,
            instruction: Err("only the log tells of this fault".into()),
            touched,
            task: incident.pid.zip(incident.comm.clone()),
            context: None,
            callers: incident
                .functions()
                .map(|e| base_name(&e.location.function).to_owned())
                .collect(),
            disagreements: Vec::new(),
        })
    }

    /// "wrote 8 bytes to", "read 4 bytes from", "used".
    pub(crate) fn verb(&self) -> String {
        match self.touched.as_ref().and_then(|t| t.access) {
            Some((Access::Write, n)) => format!("wrote {} to", bytes(n)),
            Some((Access::Read, n)) => format!("read {} from", bytes(n)),
            Some((Access::ReadWrite, n)) => format!("changed {} at", bytes(n)),
            None => "touched".into(),
        }
    }
}

fn bytes(n: u64) -> String {
    match n {
        0 => "memory".into(),
        1 => "1 byte".into(),
        n => format!("{n} bytes"),
    }
}

fn from_exception(
    kernel: Option<&Kernel>,
    crashed: &Crashed,
    exception: &Exception,
    oops: Option<&Incident>,
) -> Fault {
    let frames = &crashed.stack.frames;
    let frame = frames.get(exception.frame);
    let symbol = frame.and_then(|f| f.symbol.clone());
    let ip = exception.registers.ip();
    let touches = matches!(
        exception.trap,
        Trap::PageFault | Trap::GeneralProtection | Trap::StackSegment | Trap::DoubleFault
    );
    let touched = if touches { touched(kernel, crashed, exception, oops) } else { None };
    Fault {
        trap: exception.trap,
        location: symbol.as_ref().map_or_else(|| format!("{ip:#x}"), short),
        function: symbol.as_ref().map_or(String::new(), |s| base_name(&s.name).to_owned()),
        module: symbol.and_then(|s| s.module),
        ip: Some(ip),
        instruction: exception
            .instruction
            .as_ref()
            .map(|i| annotated(kernel, i))
            .map_err(Clone::clone),
        touched,
        task: Some((crashed.task.pid, crashed.task.comm.clone())),
        context: Some(context_of(&crashed.stack, exception.frame)),
        callers: callers(&crashed.stack, exception.frame),
        disagreements: Vec::new(),
    }
}

/// An instruction's text, the target of a call or jump by name.
pub(crate) fn annotated(kernel: Option<&Kernel>, instruction: &Instruction) -> String {
    let target = instruction.target.and_then(|t| kernel?.symbol_at(t));
    match (target, instruction.text.split_once(' ')) {
        (Some(target), Some((name, _))) if target.offset == 0 => {
            format!("{name} {}", base_name(&target.name))
        }
        (Some(target), Some((name, _))) => format!("{name} {}", short(&target)),
        _ => instruction.text.clone(),
    }
}

/// "name+0x12 [module]" without compiler suffixes.
pub(crate) fn short(symbol: &SymbolAt) -> String {
    let name = base_name(&symbol.name);
    match &symbol.module {
        Some(module) => format!("{name}+{:#x} [{module}]", symbol.offset),
        None => format!("{name}+{:#x}", symbol.offset),
    }
}

/// Names of the functions that called frame `at`, up to the context's end.
pub(crate) fn callers(stack: &Stack, at: usize) -> Vec<String> {
    stack
        .frames
        .iter()
        .skip(at + 1)
        .take_while(|f| !f.is_interrupted())
        .map(|f| f.function())
        // Behind a path that many share nothing tells more.
        .take_while(|f| !crate::noise::is_common_path(f))
        .filter(|f| !f.is_empty() && !crate::noise::is_noise(f))
        .map(str::to_owned)
        .collect()
}

fn touched(
    kernel: Option<&Kernel>,
    crashed: &Crashed,
    exception: &Exception,
    oops: Option<&Incident>,
) -> Option<Touched> {
    let logged = oops.and_then(logged_address);
    let ip = exception.registers.ip();
    let regions = kernel.map(|k| regions(k, crashed)).unwrap_or_default();
    // A jump into nowhere: the address is the instruction pointer itself.
    if exception.instruction.is_err() && kernel.is_some_and(|k| !k.is_text(ip)) {
        return Some(Touched {
            address: ip,
            looks: judge(ip, None, &regions),
            access: None,
            register: None,
            origin: Origin::Unknown,
        });
    }
    let Some(operand) = exception.operand(logged) else {
        return logged.map(|address| Touched {
            address,
            looks: judge(address, None, &regions),
            access: None,
            register: None,
            origin: Origin::Unknown,
        });
    };
    let address = match (operand.address, &operand.segment) {
        (Some(address), None) => address,
        _ => logged?,
    };
    // The register that carries the pointer: the base, or the index where the
    // base is no pointer.
    let pointer = [&operand.base, &operand.index]
        .into_iter()
        .flatten()
        .filter_map(|name| Some((name.clone(), exception.register(name)?)))
        .filter(|(name, _)| !exception.registers.set().places.contains(&name.as_str()))
        .min_by_key(|(_, value)| value.abs_diff(address));
    let origin = match (kernel, &pointer) {
        (Some(kernel), Some((name, value))) => {
            origin_of(kernel, &crashed.stack.frames, exception.frame, name, Some(*value))
        }
        _ => Origin::Unknown,
    };
    let base = pointer.as_ref().map(|(_, value)| *value);
    Some(Touched {
        address,
        looks: judge(address, base, &regions),
        access: Some((operand.access, operand.size)),
        register: pointer,
        origin,
    })
}

/// Regions of kernel space that a bad address may be in, narrowest first.
fn regions(kernel: &Kernel, crashed: &Crashed) -> Vec<(Range<u64>, String)> {
    let mut found = Vec::new();
    if let Ok(stack) = kernel.stack_range(&crashed.task) {
        let guard = stack.start.saturating_sub(4096)..stack.start;
        found.push((guard, format!("the guard page below the stack of {}", crashed.task.comm)));
        found.push((stack, format!("the kernel stack of {}", crashed.task.comm)));
    }
    if let Ok(modules) = kernel.modules() {
        for module in modules {
            for piece in &module.memory {
                let what = if piece.text { "the code" } else { "the data" };
                found.push((piece.range.clone(), format!("{what} of module {}", module.name)));
            }
        }
    }
    let symbol = |name: &str| kernel.symbol(name).ok();
    if let (Some(start), Some(end)) = (symbol("_stext"), symbol("_etext")) {
        found.push((start..end, "the kernel's code".into()));
    }
    found.push((kernel.space().image_range(), "the kernel's image".into()));
    if let Some(map) = kernel.space().direct_map() {
        found.push((map, "the direct map of memory, where that page is not accessible".into()));
    }
    let areas = kernel.arch().mapped_areas(kernel).unwrap_or_default();
    let vmalloc = kernel.arch().areas(kernel).vmalloc;
    if let Some((range, _)) = areas.into_iter().find(|(range, _)| Some(range.start) == vmalloc) {
        found.push((range, "vmalloc space, unmapped".into()));
    }
    found
}

/// The address that an oops reports.
pub(crate) fn logged_address(incident: &Incident) -> Option<u64> {
    let markers = [
        "virtual address ",
        "address: ",
        "address 0x",
        "dereference at ",
        "paging request at ",
        "hit at ",
    ];
    markers.iter().find_map(|marker| {
        let rest = incident.after(marker)?;
        let digits = rest.trim_start_matches("0x");
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        u64::from_str_radix(&digits[..end], 16).ok()
    })
}

/// Where the dump's memory and its log tell different stories.
fn compare(fault: &Fault, oops: &Incident) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(rip) = &oops.rip {
        let logged = base_name(&rip.function);
        if !fault.function.is_empty() && logged != fault.function {
            found.push(format!(
                "the log has the fault at {rip}, the exception frame says {}",
                fault.location
            ));
        }
    }
    if let (Some(touched), Some(logged)) = (&fault.touched, logged_address(oops)) {
        let size = touched.access.map_or(0, |(_, n)| n).max(64);
        if fault.trap == Trap::PageFault && logged.wrapping_sub(touched.address) >= size {
            found.push(format!(
                "the log's address is {logged:#x}, registers and instruction give {:#x}",
                touched.address
            ));
        }
    }
    found
}
