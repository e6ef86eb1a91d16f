//! ORC tables, entry by entry.

/// Forms of `struct orc_entry`: the two bytes after the offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    V5_10,
    V6_3,
    V6_4,
    V7_1,
}

pub(crate) const FORMS: [Form; 4] = [Form::V5_10, Form::V6_3, Form::V6_4, Form::V7_1];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Undefined,
    EndOfStack,
    Call,
    Regs,
    RegsPartial,
}

/// (address, sp_reg, sp_offset, bp_reg, bp_offset, kind); registers by their names in the kernel.
pub(crate) type Rule = (u64, &'static str, i16, &'static str, i16, Kind);

/// `rules` sorted by address; the tables of addresses (to be at `ip`) and of entries.
pub(crate) fn write(rules: &[Rule], form: Form, ip: u64) -> (Vec<u8>, Vec<u8>) {
    let mut ips = Vec::new();
    let mut entries = Vec::new();
    for ((addr, sp_reg, sp_offset, bp_reg, bp_offset, kind), index) in rules.iter().zip(0..) {
        let relative = addr.wrapping_sub(ip + 4 * index) as i64;
        ips.extend(i32::try_from(relative).unwrap().to_le_bytes());
        entries.extend(sp_offset.to_le_bytes());
        entries.extend(bp_offset.to_le_bytes());
        let registers = register(sp_reg, form) | register(bp_reg, form) << 4;
        let signal = matches!(kind, Kind::Regs | Kind::RegsPartial);
        let end = *kind == Kind::EndOfStack;
        let old_type = match kind {
            Kind::Regs => 1,
            Kind::RegsPartial => 2,
            _ => 0_u16,
        };
        let upper = match form {
            Form::V5_10 => old_type | u16::from(end) << 2,
            Form::V6_3 => old_type | u16::from(signal) << 2 | u16::from(end) << 3,
            Form::V6_4 | Form::V7_1 => {
                let new_type = match kind {
                    Kind::Undefined => 0,
                    Kind::EndOfStack => 1,
                    Kind::Call => 2,
                    Kind::Regs => 3,
                    Kind::RegsPartial => 4,
                };
                new_type | u16::from(signal) << 3
            }
        };
        entries.extend((registers | upper << 8).to_le_bytes());
    }
    (ips, entries)
}

fn register(name: &str, form: Form) -> u16 {
    let old = [
        "undefined",
        "prev_sp",
        "dx",
        "di",
        "bp",
        "sp",
        "r10",
        "r13",
        "bp_indirect",
        "sp_indirect",
    ];
    let new = [
        "undefined",
        "ax",
        "dx",
        "sp",
        "bp",
        "di",
        "r10",
        "r13",
        "prev_sp",
        "sp_indirect",
        "bp_indirect",
    ];
    let names: &[&str] = if form == Form::V7_1 { &new } else { &old };
    names.iter().position(|known| *known == name).unwrap() as u16
}

/// Bitfields of `struct orc_entry`: (name, at, width).
pub(crate) fn bitfields(form: Form) -> Vec<(&'static str, u32, u32)> {
    let mut fields = vec![("sp_reg", 32, 4), ("bp_reg", 36, 4)];
    match form {
        Form::V5_10 => fields.extend([("type", 40, 2), ("end", 42, 1)]),
        Form::V6_3 => fields.extend([("type", 40, 2), ("signal", 42, 1), ("end", 43, 1)]),
        Form::V6_4 | Form::V7_1 => fields.extend([("type", 40, 3), ("signal", 43, 1)]),
    }
    fields
}
