//! The unwind tables in their four forms, with and without types that tell which.

#![allow(clippy::unwrap_used, clippy::panic)] // also outside of the test functions

mod build;

use build::Pieces;
use build::btf::{Builder, SIGNED};
use build::orc::{FORMS, Form, Kind, Rule, bitfields, write};
use kmortem_debuginfo::btf::Btf;
use kmortem_debuginfo::orc::{OrcEntry, OrcError, OrcKind, OrcReg, OrcTable};
use proptest::prelude::*;

const TEXT: u64 = 0xffff_ffff_8100_0000;
const IP: u64 = 0xffff_ffff_8238_39c4;
const ENTRIES: u64 = 0xffff_ffff_8256_f9f8;

/// Plain functions, and in between what is special.
fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for function in 0..200 {
        let at = TEXT + function * 0x100;
        rules.push((at, "sp", 8, "undefined", 0, Kind::Call));
        rules.push((at + 1, "sp", 16, "prev_sp", -16, Kind::Call));
        rules.push((at + 0xf0, "sp", 8, "undefined", 0, Kind::Call));
    }
    let at = TEXT + 0x10_0000;
    rules.push((at, "undefined", 0, "undefined", 0, Kind::EndOfStack));
    rules.push((at + 0x10, "sp", 0, "undefined", 0, Kind::Regs));
    rules.push((at + 0x20, "sp", 8, "undefined", 0, Kind::RegsPartial));
    rules.push((at + 0x30, "bp", -40, "prev_sp", -16, Kind::Call));
    rules.push((at + 0x40, "sp_indirect", 8, "bp", 0, Kind::Call));
    rules.push((at + 0x50, "r10", 0, "bp", 0, Kind::Call));
    rules.push((at + 0x60, "di", 0, "undefined", 0, Kind::Regs));
    rules.push((at + 0x70, "undefined", 0, "undefined", 0, Kind::Undefined));
    // A terminator and a function at the same address.
    rules.push((at + 0x80, "undefined", 0, "undefined", 0, Kind::Undefined));
    rules.push((at + 0x80, "bp_indirect", 24, "undefined", 0, Kind::Call));
    rules.push((at + 0x90, "undefined", 0, "undefined", 0, Kind::Undefined));
    rules
}

fn memory(form: Form) -> (Pieces, u64) {
    let rules = rules();
    let (ips, entries) = write(&rules, form, IP);
    (Pieces(vec![(IP, ips), (ENTRIES, entries)]), rules.len() as u64)
}

fn btf(form: Form) -> Btf {
    let mut b = Builder::new();
    let short = b.int("short int", 2, SIGNED);
    let uint = b.int("unsigned int", 4, 0);
    let mut members = vec![("sp_offset", short, 0, 0), ("bp_offset", short, 16, 0)];
    members.extend(bitfields(form).into_iter().map(|(name, at, width)| (name, uint, at, width)));
    b.bitfields("orc_entry", 6, &members);
    Btf::parse(b.finish()).unwrap()
}

fn open(form: Form, with_type: bool) -> (Pieces, OrcTable) {
    let (memory, count) = memory(form);
    let btf = btf(form);
    let ty = btf.find("orc_entry").filter(|_| with_type);
    let table = OrcTable::open(&memory, IP, ENTRIES, count, ty)
        .unwrap_or_else(|error| panic!("{form:?} {with_type}: {error}"));
    (memory, table)
}

#[test]
fn every_form_says_the_same_with_and_without_types() {
    for form in FORMS {
        for with_type in [true, false] {
            let (memory, table) = open(form, with_type);
            let at = |offset: u64| {
                let entry = table.lookup(&memory, TEXT + offset).unwrap();
                entry.map(|e| (e.sp_reg, e.sp_offset, e.bp_reg, e.bp_offset, e.kind, e.signal))
            };
            use OrcReg::*;
            let what = format!("{form:?} {with_type}");
            let plain = |sp_offset| Some((Sp, sp_offset, Undefined, 0, OrcKind::Call, false));
            assert_eq!(at(0x500), plain(8), "{what}");
            assert_eq!(at(0x501), Some((Sp, 16, PrevSp, -16, OrcKind::Call, false)), "{what}");
            assert_eq!(at(0x5ff), plain(8), "{what}");
            let end = at(0x10_0000).unwrap();
            assert_eq!((end.4, end.5), (OrcKind::EndOfStack, false), "{what}");
            assert_eq!(at(0x10_0010), Some((Sp, 0, Undefined, 0, OrcKind::Regs, true)));
            assert_eq!(at(0x10_0020), Some((Sp, 8, Undefined, 0, OrcKind::RegsPartial, true)));
            assert_eq!(at(0x10_0030), Some((Bp, -40, PrevSp, -16, OrcKind::Call, false)));
            assert_eq!(at(0x10_0040), Some((SpIndirect, 8, Bp, 0, OrcKind::Call, false)));
            assert_eq!(at(0x10_0050), Some((R10, 0, Bp, 0, OrcKind::Call, false)));
            assert_eq!(at(0x10_0060), Some((Di, 0, Undefined, 0, OrcKind::Regs, true)));
            assert_eq!(at(0x10_0070), None, "{what}");
            assert_eq!(at(0x10_0080), Some((BpIndirect, 24, Undefined, 0, OrcKind::Call, false)));
            assert_eq!(at(0x10_0090), None, "{what}");
        }
    }
}

#[test]
fn before_the_first_entry_is_nothing() {
    let (memory, table) = open(Form::V6_4, true);
    assert_eq!(table.lookup(&memory, TEXT - 1), Ok(None));
    assert_eq!(table.lookup(&memory, 0), Ok(None));
    assert_eq!(OrcEntry::NULL_CALL.sp_offset, 8);
}

#[test]
fn every_entry_is_found_by_its_address() {
    let (memory, table) = open(Form::V7_1, false);
    let rules = rules();
    for (index, rule) in rules.iter().enumerate() {
        if rules.get(index + 1).is_some_and(|next| next.0 == rule.0) {
            continue;
        }
        let entry = table.lookup(&memory, rule.0).unwrap();
        assert_eq!(entry.is_none(), rule.5 == Kind::Undefined);
        if let Some(entry) = entry {
            assert_eq!(entry.sp_offset, i32::from(rule.2));
        }
    }
}

#[test]
fn a_table_that_is_not_there_is_an_error_and_no_rule() {
    let (Pieces(mut pieces), count) = memory(Form::V6_4);
    let table = open(Form::V6_4, true).1;
    pieces.pop();
    let memory = Pieces(pieces);
    assert!(table.lookup(&memory, TEXT).is_err());
    assert!(matches!(OrcTable::open(&memory, IP, ENTRIES, count, None), Err(OrcError::Memory(_))));
}

#[test]
fn entries_without_a_form_are_refused() {
    let memory = Pieces(vec![(IP, vec![0; 4000]), (ENTRIES, vec![0xff; 6000])]);
    assert!(matches!(
        OrcTable::open(&memory, IP, ENTRIES, 1000, None),
        Err(OrcError::Form(ENTRIES))
    ));
    for count in [0, u64::MAX] {
        let error = OrcTable::open(&memory, IP, ENTRIES, count, None).map(|_| ());
        assert_eq!(error, Err(OrcError::Count(count)));
    }
}

#[test]
fn a_struct_of_another_shape_is_not_believed() {
    let mut b = Builder::new();
    let int = b.int("int", 4, SIGNED);
    b.composite(build::btf::STRUCT, "orc_entry", 4000, &[("sp_offset", int, 0), ("type", int, 32)]);
    let btf = Btf::parse(b.finish()).unwrap();
    let (memory, count) = memory(Form::V6_4);
    // Without a usable type the entries are looked at.
    assert!(OrcTable::open(&memory, IP, ENTRIES, count, btf.find("orc_entry")).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        ips in prop::collection::vec(any::<u8>(), 400),
        entries in prop::collection::vec(any::<u8>(), 600),
        pc: u64,
    ) {
        let memory = Pieces(vec![(IP, ips), (ENTRIES, entries)]);
        let mut table = open(Form::V7_1, true).1;
        table.count = 100;
        let _ = table.lookup(&memory, pc);
        let _ = OrcTable::open(&memory, IP, ENTRIES, 100, None);
        table.count = u64::MAX;
        table.ip = pc;
        // Somewhere on the way is nothing to read.
        prop_assert!(table.lookup(&memory, pc).is_err());
    }
}
