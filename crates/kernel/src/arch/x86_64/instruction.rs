//! One x86_64 instruction: what it does, to which memory, in the syntax of
//! objdump (AT&T).

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter, GasFormatter, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};

use super::registers::Reg;
use crate::arch::Registers;
use crate::instruction::{Access, Flow, Instruction, MemoryOperand};

/// No instruction is longer (Intel SDM volume 2, 2.3.11).
pub(super) const LONGEST: usize = 15;

/// Decodes the first instruction of `bytes`, which lie at `address`.
pub(super) fn decode(
    bytes: &[u8],
    address: u64,
    registers: Option<&Registers>,
) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let raw = decoder.decode();
    if raw.is_invalid() {
        return None;
    }
    let mut text = String::new();
    let mut formatter = GasFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(false);
    formatter.options_mut().set_uppercase_hex(false);
    formatter.format(&raw, &mut text);
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&raw);
    let memory = info
        .used_memory()
        .iter()
        .filter(|m| !is_implicit_stack(m, &raw))
        .filter_map(|m| operand(m, registers))
        .collect();
    let writes = info
        .used_registers()
        .iter()
        .filter(|r| {
            matches!(
                r.access(),
                OpAccess::Write
                    | OpAccess::ReadWrite
                    | OpAccess::CondWrite
                    | OpAccess::ReadCondWrite
            )
        })
        .map(|r| name_of(r.register()))
        .collect();
    let is_move = raw.mnemonic() == Mnemonic::Mov
        && raw.op0_register().is_gpr64()
        && raw.op1_register().is_gpr64();
    let flow = match raw.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => Flow::Jump,
        FlowControl::Call => Flow::Call,
        FlowControl::IndirectBranch | FlowControl::IndirectCall => Flow::Indirect,
        FlowControl::Return => Flow::Return,
        FlowControl::Exception | FlowControl::Interrupt => Flow::Trap,
        _ => Flow::Next,
    };
    Some(Instruction {
        address,
        text,
        length: raw.len(),
        flow,
        target: matches!(flow, Flow::Call | Flow::Jump).then(|| raw.near_branch_target()),
        memory,
        writes,
        moved_from: is_move.then(|| name_of(raw.op1_register())),
        added: None,
        constant: constant(&raw),
    })
}

/// The value that `mov $x,%reg` or `lea x(%rip),%reg` puts in a register.
fn constant(raw: &iced_x86::Instruction) -> Option<u64> {
    match (raw.mnemonic(), raw.op1_kind()) {
        (Mnemonic::Mov, OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64)
            if raw.op0_register().is_gpr() =>
        {
            Some(raw.immediate(1))
        }
        (Mnemonic::Lea, _) if raw.is_ip_rel_memory_operand() => Some(raw.ip_rel_memory_address()),
        _ => None,
    }
}

/// Pushes and pops touch the stack without naming it.
fn is_implicit_stack(memory: &UsedMemory, raw: &iced_x86::Instruction) -> bool {
    memory.base() == Register::RSP
        && raw.is_stack_instruction()
        && raw.memory_base() != Register::RSP
}

fn operand(memory: &UsedMemory, registers: Option<&Registers>) -> Option<MemoryOperand> {
    let access = match memory.access() {
        OpAccess::Read | OpAccess::CondRead => Access::Read,
        OpAccess::Write | OpAccess::CondWrite => Access::Write,
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => Access::ReadWrite,
        // `lea` computes an address and touches nothing.
        _ => return None,
    };
    let segment = match memory.segment() {
        Register::GS => Some("gs".to_owned()),
        Register::FS => Some("fs".to_owned()),
        _ => None,
    };
    let named = |register: Register| (register != Register::None).then(|| name_of(register));
    let address = memory.virtual_address(0, |register, _, _| match register {
        // The flat segments start at 0; gs and fs are told apart by `segment`.
        Register::CS | Register::DS | Register::ES | Register::SS | Register::FS | Register::GS => {
            Some(0)
        }
        _ => registers?.get(register_of(register)?),
    });
    Some(MemoryOperand {
        access,
        size: memory.memory_size().size() as u64,
        base: named(memory.base()),
        index: named(memory.index()),
        scale: memory.scale(),
        displacement: memory.displacement() as i64,
        segment,
        address,
    })
}

fn name_of(register: Register) -> String {
    format!("{:?}", register.full_register()).to_lowercase()
}

fn register_of(register: Register) -> Option<Reg> {
    Some(match register.full_register() {
        Register::RAX => Reg::Ax,
        Register::RBX => Reg::Bx,
        Register::RCX => Reg::Cx,
        Register::RDX => Reg::Dx,
        Register::RSI => Reg::Si,
        Register::RDI => Reg::Di,
        Register::RBP => Reg::Bp,
        Register::RSP => Reg::Sp,
        Register::R8 => Reg::R8,
        Register::R9 => Reg::R9,
        Register::R10 => Reg::R10,
        Register::R11 => Reg::R11,
        Register::R12 => Reg::R12,
        Register::R13 => Reg::R13,
        Register::R14 => Reg::R14,
        Register::R15 => Reg::R15,
        Register::RIP => Reg::Ip,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::registers::complete;

    fn registers(set: &[(usize, u64)]) -> Registers {
        let mut words = [0; 21];
        for (at, value) in set {
            words[*at] = *value;
        }
        complete(words)
    }

    #[test]
    fn a_write_through_null_plus_an_offset() {
        // movq $0x0,0x20(%rax)
        let code = [0x48, 0xc7, 0x40, 0x20, 0, 0, 0, 0];
        let found = decode(&code, 0xffff_ffff_8100_0000, Some(&registers(&[]))).unwrap();
        let memory = &found.memory[0];
        assert_eq!(memory.access, Access::Write);
        assert_eq!(memory.size, 8);
        assert_eq!(memory.base.as_deref(), Some("rax"));
        assert_eq!(memory.address, Some(0x20));
        assert_eq!(found.text, "movq $0,0x20(%rax)");
    }

    #[test]
    fn an_addition_to_memory_reads_and_writes() {
        // addq $0x64,(%rdi)
        let rdi = Reg::Di as usize;
        let regs = registers(&[(rdi, 0x5041_594c_4f41_4421)]);
        let found = decode(&[0x48, 0x83, 0x07, 0x64], 0x1000, Some(&regs)).unwrap();
        assert_eq!(found.memory[0].access, Access::ReadWrite);
        assert_eq!(found.memory[0].address, Some(0x5041_594c_4f41_4421));
    }

    #[test]
    fn a_load_of_a_global_knows_its_address_without_registers() {
        // mov 0x10(%rip),%rax at 0x1000 (7 bytes long)
        let found = decode(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0], 0x1000, None).unwrap();
        assert_eq!(found.memory[0].address, Some(0x1017));
        assert_eq!(found.writes, ["rax"]);
    }

    #[test]
    fn a_call_touches_no_named_memory() {
        let found = decode(&[0xe8, 0xfb, 0xff, 0xff, 0xff], 0x1000, Some(&registers(&[]))).unwrap();
        assert_eq!((found.flow, found.target), (Flow::Call, Some(0x1000)));
        assert!(found.memory.is_empty());
    }

    #[test]
    fn ud2_is_a_trap_and_a_move_has_a_source() {
        assert_eq!(decode(&[0x0f, 0x0b], 0, None).unwrap().flow, Flow::Trap);
        let moved = decode(&[0x48, 0x89, 0xfb], 0, None).unwrap();
        assert_eq!(moved.moved_from.as_deref(), Some("rdi"));
    }

    #[test]
    fn a_per_cpu_access_keeps_its_segment() {
        // mov %gs:0x1fb80,%rax
        let code = [0x65, 0x48, 0x8b, 0x04, 0x25, 0x80, 0xfb, 0x01, 0x00];
        let found = decode(&code, 0, Some(&registers(&[]))).unwrap();
        assert_eq!(found.memory[0].segment.as_deref(), Some("gs"));
        assert_eq!(found.memory[0].address, Some(0x1fb80));
    }

    #[test]
    fn an_address_in_the_code_is_a_constant() {
        // mov $0xffffffffc013c190,%rdi
        let code = [0x48, 0xc7, 0xc7, 0x90, 0xc1, 0x13, 0xc0];
        assert_eq!(decode(&code, 0, None).unwrap().constant, Some(0xffff_ffff_c013_c190));
        // lea 0x10(%rip),%rdi
        let code = [0x48, 0x8d, 0x3d, 0x10, 0, 0, 0];
        assert_eq!(decode(&code, 0x1000, None).unwrap().constant, Some(0x1017));
        // mov %rax,%rdi
        assert_eq!(decode(&[0x48, 0x89, 0xc7], 0, None).unwrap().constant, None);
    }

    #[test]
    fn cut_off_bytes_are_no_instruction() {
        assert!(decode(&[0x48, 0xc7, 0x40], 0, None).is_none());
        assert!(decode(&[], 0, None).is_none());
    }
}
