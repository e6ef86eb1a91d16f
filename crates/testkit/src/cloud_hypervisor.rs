//! Cloud Hypervisor's state.json, after vm-migration/src/lib.rs, vmm/src/memory_manager.rs and
//! hypervisor/src/kvm/x86_64/mod.rs of its releases, and its coredump, after vmm/src/coredump.rs.

use crate::elf::{Elf, Load};
use crate::notes::note;
use crate::vcpu::Vcpu;

/// How sections are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChForm {
    /// v20 to v28: sections with a name, of bytes.
    Named,
    /// v29 to v38: bytes.
    Bytes,
    /// Since v39: text.
    Text,
}

/// A state.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct CloudHypervisor {
    pub form: ChForm,
    pub ranges: Vec<(u64, u64)>,
    pub vcpus: Vec<Vcpu>,
}

impl CloudHypervisor {
    /// state.json.
    pub fn build(&self) -> Vec<u8> {
        let vcpus: Vec<String> = (0..)
            .zip(&self.vcpus)
            .map(|(index, vcpu): (usize, _)| {
                let name = if self.form == ChForm::Named {
                    format!("{index:03}")
                } else {
                    index.to_string()
                };
                format!("\"{name}\":{}", self.section("vcpu", self.vcpu(vcpu).as_bytes(), ""))
            })
            .collect();
        let cpus = format!(
            "{{{}\"snapshots\":{{{}}},\"snapshot_data\":{}}}",
            self.id("cpu-manager"),
            vcpus.join(","),
            self.nothing()
        );
        let memory = self.section("memory-manager", &self.memory(), "");
        let devices = self.section("device-manager", b"{\"device_tree\":{}}", "");
        format!(
            "{{{}\"snapshots\":{{\"cpu-manager\":{cpus},\"device-manager\":{devices},\"memory-manager\":{memory}}},\
             \"snapshot_data\":{}}}",
            self.id("vm"),
            self.nothing(),
        )
        .into_bytes()
    }

    fn id(&self, id: &str) -> String {
        if self.form == ChForm::Named { format!("\"id\":\"{id}\",") } else { String::new() }
    }

    fn nothing(&self) -> &'static str {
        if self.form == ChForm::Named { "{}" } else { "null" }
    }

    fn section(&self, id: &str, data: &[u8], snapshots: &str) -> String {
        let data = match self.form {
            ChForm::Named => format!(
                "{{\"{id}-section\":{{\"id\":\"{id}-section\",\"snapshot\":{}}}}}",
                numbers(data)
            ),
            ChForm::Bytes => numbers(data),
            ChForm::Text => {
                let text = String::from_utf8_lossy(data).replace('\\', "\\\\").replace('"', "\\\"");
                format!("{{\"state\":\"{text}\"}}")
            }
        };
        format!("{{{}\"snapshots\":{{{snapshots}}},\"snapshot_data\":{data}}}", self.id(id))
    }

    /// JSON since v39, before by versionize: counts and numbers of 64 bits.
    fn memory(&self) -> Vec<u8> {
        if self.form == ChForm::Text {
            let ranges: Vec<String> = self
                .ranges
                .iter()
                .map(|(gpa, length)| format!("{{\"gpa\":{gpa},\"length\":{length}}}"))
                .collect();
            let text = format!(
                "{{\"memory_ranges\":{{\"data\":[{}]}},\"guest_ram_mappings\":[],\"boot_ram\":1}}",
                ranges.join(",")
            );
            return text.into_bytes();
        }
        let mut out = (self.ranges.len() as u64).to_le_bytes().to_vec();
        for (gpa, length) in &self.ranges {
            out.extend(gpa.to_le_bytes());
            out.extend(length.to_le_bytes());
        }
        // guest_ram_mappings, and what follows.
        out.extend([0; 64]);
        out
    }

    fn vcpu(&self, vcpu: &Vcpu) -> String {
        let (regs, sregs) = match self.form {
            ChForm::Text => (numbers(&vcpu.kvm_regs()), numbers(&vcpu.kvm_sregs())),
            _ => (regs(vcpu), sregs(vcpu)),
        };
        let msrs = format!(
            "[{{\"index\":372,\"data\":1}},{{\"index\":3221225730,\"data\":{}}}]",
            vcpu.kernel_gs_base
        );
        let state = format!(
            "{{\"cpuid\":[{{\"function\":1,\"index\":0}}],\"msrs\":{msrs},\"regs\":{regs},\"sregs\":{sregs},\
             \"mp_state\":{{\"mp_state\":0}},\"tsc_khz\":null}}"
        );
        if self.form == ChForm::Named { state } else { format!("{{\"Kvm\":{state}}}") }
    }
}

fn numbers(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(","))
}

fn regs(vcpu: &Vcpu) -> String {
    const NAMES: [&str; 18] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15", "rip", "rflags",
    ];
    let words = vcpu.gprs.into_iter().chain([vcpu.rip, vcpu.rflags]);
    let fields: Vec<String> =
        NAMES.iter().zip(words).map(|(name, word)| format!("\"{name}\":{word}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn sregs(vcpu: &Vcpu) -> String {
    const NAMES: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"];
    let mut fields = Vec::new();
    for (name, (selector, base)) in NAMES.iter().zip(vcpu.segments) {
        fields.push(format!(
            "\"{name}\":{{\"base\":{base},\"limit\":4294967295,\"selector\":{selector},\"type_\":11,\
             \"present\":1,\"dpl\":0,\"db\":0,\"s\":1,\"l\":1,\"g\":1,\"avl\":0,\"unusable\":0,\"padding\":0}}"
        ));
    }
    for (name, (limit, base)) in [("gdt", vcpu.gdt), ("idt", vcpu.idt)] {
        fields
            .push(format!("\"{name}\":{{\"base\":{base},\"limit\":{limit},\"padding\":[0,0,0]}}"));
    }
    for index in [0, 2, 3, 4] {
        fields.push(format!("\"cr{index}\":{}", vcpu.cr[index]));
    }
    fields.push("\"cr8\":0,\"efer\":3329,\"apic_base\":4276096256".to_owned());
    fields.push("\"interrupt_bitmap\":[0,0,0,0]".to_owned());
    format!("{{{}}}", fields.join(","))
}

/// The head of a coredump: all of PRSTATUS first, then all of the VMM's notes, and the memory right
/// behind them. `ranges` lie there one behind the other.
pub fn ch_coredump(ranges: &[(u64, u64)], vcpus: &[Vcpu]) -> Vec<u8> {
    let mut notes = Vec::new();
    for (pid, vcpu) in (0u64..).zip(vcpus) {
        let [ax, bx, cx, dx, si, di, sp, bp, r8, r9, r10, r11, r12, r13, r14, r15] = vcpu.gprs;
        let [es, cs, ss, ds, fs, gs, ..] = vcpu.segments.map(|(selector, _)| u64::from(selector));
        let [_, _, _, _, (_, fs_base), (_, gs_base), ..] = vcpu.segments;
        let mut desc = vec![0; 32];
        desc.extend(pid.to_le_bytes());
        desc.resize(112, 0);
        let words = [
            r15,
            r14,
            r13,
            r12,
            bp,
            bx,
            r11,
            r10,
            r9,
            r8,
            ax,
            cx,
            dx,
            si,
            di,
            0,
            vcpu.rip,
            cs,
            vcpu.rflags,
            sp,
            ss,
            fs_base,
            gs_base,
            ds,
            es,
            fs,
            gs,
        ];
        desc.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        desc.extend([0; 8]);
        notes.extend(note("CORE", 1, &desc));
    }
    for vcpu in vcpus {
        let mut desc = 1u32.to_le_bytes().to_vec();
        desc.extend(440u32.to_le_bytes());
        let words = vcpu.gprs.into_iter().chain([vcpu.rip, vcpu.rflags]);
        desc.extend(words.flat_map(u64::to_le_bytes));
        let [es, cs, ss, ds, fs, gs, ldt, tr] = vcpu.segments;
        let tables = [vcpu.gdt, vcpu.idt].map(|(limit, base)| (0, u32::from(limit), base));
        let segments =
            [cs, ds, es, fs, gs, ss, ldt, tr].map(|(selector, base)| (selector, u32::MAX, base));
        for (selector, limit, base) in segments.into_iter().chain(tables) {
            for word in [u32::from(selector), limit, 0, 0] {
                desc.extend(word.to_le_bytes());
            }
            desc.extend(base.to_le_bytes());
        }
        let words = vcpu.cr.into_iter().chain([vcpu.kernel_gs_base]);
        desc.extend(words.flat_map(u64::to_le_bytes));
        notes.extend(note("QEMU", 0, &desc));
    }
    // Without bytes the segments' offsets and sizes are wrong: they are written here.
    let load = |(paddr, len): &(u64, u64)| Load { paddr: *paddr, mem_len: *len, ..Load::default() };
    let start = 64 + 56 * (1 + ranges.len() as u64);
    let memory = start + notes.len() as u64;
    let elf = Elf { loads: ranges.iter().map(load).collect(), ..Elf::default() };
    let mut head = Elf { notes: vec![Vec::new()], ..elf }.build();
    head.resize(start as usize, 0);
    let mut put = |at: usize, word: u64| head[at..at + 8].copy_from_slice(&word.to_le_bytes());
    put(64 + 8, start);
    put(64 + 32, notes.len() as u64);
    let mut offset = memory;
    for (index, (_, len)) in ranges.iter().enumerate() {
        let at = 64 + 56 * (1 + index);
        put(at + 8, offset);
        put(at + 32, *len);
        offset += len;
    }
    head.extend(notes);
    head
}
