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
            cr: std::array::from_fn(
                |index| if index == 1 { 0 } else { register(0x30 + index as u64) },
            ),
            segments: std::array::from_fn(|index| {
                (8 * index as u16, register(0x40 + index as u64))
            }),
            gdt: (0x7f, register(0x50)),
            idt: (0xfff, register(0x51)),
            kernel_gs_base: register(0x52),
        }
    }
}
