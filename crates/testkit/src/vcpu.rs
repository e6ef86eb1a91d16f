//! Registers of a virtual CPU, for the states that hypervisors keep of it.

/// Registers of x86_64.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Vcpu {
    /// rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15.
    pub gprs: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    /// CR0 to CR4.
    pub cr: [u64; 5],
    /// Selector and base of ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub segments: [(u16, u64); 8],
    /// Limit and base.
    pub gdt: (u16, u64),
    pub idt: (u16, u64),
    pub kernel_gs_base: u64,
}

impl Vcpu {
    /// Each register has a value that tells which it is, beside the number.
    pub fn numbered(number: u64) -> Vcpu {
        let base = (number + 1) << 32;
        let register = |which: u64| base + which;
        Vcpu {
            gprs: std::array::from_fn(|index| register(0x10 + index as u64)),
            rip: register(0x20),
            rflags: 0x46,
            cr: [0x8005_0033, 0, register(0x32), register(0x3000), 0x37_06f0],
            segments: std::array::from_fn(|index| {
                (8 * index as u16, register(0x40 + index as u64))
            }),
            gdt: (0x7f, register(0x50)),
            idt: (0xfff, register(0x51)),
            kernel_gs_base: register(0x52),
        }
    }

    /// `struct kvm_regs`.
    pub fn kvm_regs(&self) -> Vec<u8> {
        let words = self.gprs.into_iter().chain([self.rip, self.rflags]);
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// `struct kvm_sregs` of a CPU in 64-bit mode.
    pub fn kvm_sregs(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let [es, cs, ss, ds, fs, gs, ldt, tr] = self.segments;
        for (index, (selector, base)) in [cs, ds, es, fs, gs, ss, tr, ldt].into_iter().enumerate() {
            out.extend(base.to_le_bytes());
            out.extend(0xffff_ffffu32.to_le_bytes());
            out.extend(selector.to_le_bytes());
            // Type, present, dpl, db, s, l, g, avl, unusable, padding.
            out.extend(match index {
                0 => [11, 1, 0, 0, 1, 1, 1, 0, 0, 0],
                6 => [11, 1, 0, 0, 0, 0, 0, 0, 0, 0],
                _ => [3, 1, 3, 1, 1, 0, 1, 0, 0, 0],
            });
        }
        for (limit, base) in [self.gdt, self.idt] {
            out.extend(base.to_le_bytes());
            out.extend(limit.to_le_bytes());
            out.extend([0; 6]);
        }
        let [cr0, _, cr2, cr3, cr4] = self.cr;
        for word in [cr0, cr2, cr3, cr4, 0, 0xd01, 0xfee0_0d00, 0, 0, 0, 0] {
            out.extend(word.to_le_bytes());
        }
        out
    }

    /// An entry of `struct kvm_msrs`.
    pub fn kvm_msr(index: u32, value: u64) -> Vec<u8> {
        [index.to_le_bytes().as_slice(), &[0; 4], &value.to_le_bytes()].concat()
    }
}
