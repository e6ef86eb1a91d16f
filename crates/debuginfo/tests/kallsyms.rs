//! kallsyms in every form that kernels wrote it, and in forms that no kernel would.

#![allow(clippy::unwrap_used, clippy::panic)] // also outside of the test functions

mod build;

use build::Pieces;
use build::kallsyms::{Encoding, Form, KERNEL, Order, RODATA, Sym, Written, with_borders, write};
use kmortem_debuginfo::kallsyms::{Addresses, Kallsyms, KallsymsError};
use proptest::prelude::*;

const RANGE: std::ops::Range<u64> = KERNEL..KERNEL + (64 << 20);

const V5_10: Form = Form {
    encoding: Encoding::AbsolutePercpu,
    order: Order::UpTo63 { seqs: false },
    long_lengths: false,
    alignment: 8,
};
const V6_2: Form = Form { order: Order::UpTo63 { seqs: true }, long_lengths: true, ..V5_10 };
const V6_4: Form = Form { order: Order::Since64, ..V6_2 };
const V6_15: Form = Form { encoding: Encoding::BaseRelative, ..V6_4 };
const V7_0: Form = Form { encoding: Encoding::PlaceRelative, alignment: 4, ..V6_4 };

/// Every encoding in every order, whether or not there was a kernel with both.
fn forms() -> impl Iterator<Item = Form> {
    let encodings = [Encoding::Absolute, Encoding::BaseRelative, Encoding::AbsolutePercpu];
    let orders = [Order::UpTo63 { seqs: false }, Order::UpTo63 { seqs: true }, Order::Since64];
    encodings
        .into_iter()
        .flat_map(move |encoding| orders.map(|order| Form { encoding, order, ..V6_4 }))
        .flat_map(|form| [false, true].map(|long_lengths| Form { long_lengths, ..form }))
        .chain([V7_0])
}

fn memory(written: &Written) -> Pieces {
    Pieces(vec![(RODATA, written.rodata.clone())])
}

fn functions(count: u64) -> Vec<Sym> {
    let name = |i| format!("sys_{}_{i}", ["read", "write", "open", "close"][i as usize % 4]);
    with_borders((0..count).map(|i| (KERNEL + 0x1000 + 0x40 * i, 't', name(i))).collect())
}

fn contents(kallsyms: &Kallsyms) -> Vec<Sym> {
    kallsyms.iter().map(|s| (s.addr, s.kind as char, s.name)).collect()
}

#[test]
fn every_form_loads() {
    let symbols = functions(1000);
    for form in forms() {
        let written = write(&symbols, form);
        let anchors = [("_stext", KERNEL), ("sys_open_2", KERNEL + 0x1080), ("absent", 1)];
        let kallsyms = Kallsyms::load(&memory(&written), &written.tables, &anchors)
            .unwrap_or_else(|error| panic!("{form:?}: {error}"));
        assert_eq!(contents(&kallsyms), symbols, "{form:?}");
        assert_eq!(kallsyms.len(), symbols.len());
    }
}

#[test]
fn every_form_is_found_without_anchors() {
    let symbols = functions(1000);
    for form in forms() {
        let written = write(&symbols, form);
        let (tables, kallsyms) = Kallsyms::scan(&memory(&written), RANGE, &[])
            .unwrap_or_else(|error| panic!("{form:?}: {error}"));
        assert_eq!(contents(&kallsyms), symbols, "{form:?}");
        let seqs_of_names = None;
        assert_eq!(tables, kmortem_debuginfo::kallsyms::Tables { seqs_of_names, ..written.tables });
    }
}

#[test]
fn the_encoding_is_told() {
    let symbols = functions(300);
    for (form, expected) in [
        (V5_10, Addresses::AbsolutePercpu { base: KERNEL }),
        (V6_15, Addresses::BaseRelative { base: KERNEL }),
        (V7_0, Addresses::PlaceRelative),
        (Form { encoding: Encoding::Absolute, ..V5_10 }, Addresses::Absolute),
    ] {
        let written = write(&symbols, form);
        let loaded = Kallsyms::load(&memory(&written), &written.tables, &[]).unwrap();
        assert_eq!(loaded.encoding(), expected);
    }
}

#[test]
fn digits_across_two_chunks_of_the_scan_are_found() {
    let written = write(&functions(600), V6_4);
    // Wherever the chunks' border is: the range starts a little later each time.
    let digits = written.tables.token_table + 2 * 48;
    for shift in (0..40).step_by(3) {
        let start = digits - (1 << 20) + shift;
        let found = Kallsyms::scan(&memory(&written), start..RANGE.end, &[]);
        // The tables have to be in the range with everything that belongs to them.
        assert_eq!(found.is_ok(), start <= written.tables.names - 8, "{shift}: {found:?}");
    }
}

#[test]
fn a_length_of_two_bytes_is_not_two_names() {
    let mut symbols = functions(700);
    // No pair in it is frequent, so that it stays longer than 127 tokens.
    let long: String = (0..400_u32).map(|i| char::from(b'A' + (i * i / 7 % 26) as u8)).collect();
    for at in [3, 300, 650] {
        symbols[at].2 = format!("{long}{at}");
    }
    let written = write(&symbols, V6_4);
    let loaded = Kallsyms::load(&memory(&written), &written.tables, &[]).unwrap();
    assert_eq!(contents(&loaded), symbols);
    assert_eq!(loaded.find(&symbols[300].2), Some(symbols[300].0));
}

#[test]
fn a_length_of_one_byte_may_have_its_high_bit_set() {
    let mut symbols = functions(700);
    let long: String = (0..126_u32).map(|i| char::from(b'A' + (i * i / 7 % 26) as u8)).collect();
    for at in [0, 256, 699] {
        symbols[at].2 = format!("{long}{}", at % 9);
        symbols[at].1 = 'V';
    }
    let written = write(&symbols, Form { ..V5_10 });
    let loaded = Kallsyms::load(&memory(&written), &written.tables, &[]).unwrap();
    assert_eq!(contents(&loaded), symbols);
}

#[test]
fn percpu_offsets_are_found_by_name_but_are_no_kernel_addresses() {
    let mut symbols = functions(300);
    symbols.insert(0, (0, 'A', "fixed_percpu_data".to_owned()));
    symbols.insert(1, (0x1_8000, 'A', "runqueues".to_owned()));
    let written = write(&symbols, V5_10);
    let loaded = Kallsyms::load(&memory(&written), &written.tables, &[]).unwrap();
    assert_eq!(loaded.find("runqueues"), Some(0x1_8000));
    assert_eq!(loaded.lookup(0x1_8010), None);
    let percpu = loaded.lookup_percpu(0x10).unwrap();
    assert_eq!((percpu.name.as_str(), percpu.size), ("fixed_percpu_data", 0x1_8000));
    // Nothing of the kernel is in the per-CPU area.
    assert_eq!(loaded.lookup_percpu(KERNEL + 0x1001), None);
}

#[test]
fn an_address_belongs_to_the_symbol_before_it() {
    let symbols = functions(300);
    let written = write(&symbols, V6_4);
    let loaded = Kallsyms::load(&memory(&written), &written.tables, &[]).unwrap();
    let found = loaded.lookup(KERNEL + 0x1040 + 0x3f).unwrap();
    assert_eq!(
        (found.name.as_str(), found.addr, found.size),
        ("sys_write_1", KERNEL + 0x1040, 0x40)
    );
    assert_eq!(loaded.lookup(KERNEL - 1), None);
    // `_end` is an address and owns nothing behind it.
    let end = RODATA + 0x20_0000;
    assert_eq!(loaded.lookup(end).unwrap().name, "_end");
    assert_eq!(loaded.lookup(end + 1), None);
}

#[test]
fn a_hole_belongs_to_nobody() {
    let mut symbols = functions(300);
    symbols.push((KERNEL + (1 << 30), 'T', "far".to_owned()));
    let written = write(&symbols, V6_4);
    let loaded = Kallsyms::load(&memory(&written), &written.tables, &[]).unwrap();
    assert_eq!(loaded.lookup(KERNEL + (1 << 29)), None);
    assert_eq!(loaded.lookup(RODATA + 0x20_0000 + 5).unwrap().size, 16 << 20);
}

#[test]
fn of_several_names_the_telling_one_is_preferred() {
    let at = KERNEL + 0x2000;
    let mut symbols = functions(50);
    let aliases = [
        ('t', "__pfx_vfs_read"),
        ('T', "__entry_text_start"),
        ('t', "local_alias"),
        ('T', "vfs_read"),
        ('T', "vfs_read_alias"),
    ];
    for (kind, name) in aliases {
        symbols.push((at, kind, name.to_owned()));
    }
    symbols.sort_by_key(|(addr, ..)| *addr);
    let written = write(&symbols, V6_4);
    let loaded = Kallsyms::load(&memory(&written), &written.tables, &[]).unwrap();
    assert_eq!(loaded.lookup(at + 3).unwrap().name, "vfs_read");
}

#[test]
fn all_of_one_name_are_found_and_lto_suffixes_are_seen_through() {
    let mut symbols = functions(300);
    symbols[20].2 = "probe".to_owned();
    symbols[30].2 = "probe".to_owned();
    symbols[40].2 = "attach.llvm.1234567890".to_owned();
    symbols[50].2 = "attach.llvm.x1".to_owned();
    symbols[60].2 = "detach.cold".to_owned();
    let written = write(&symbols, V6_4);
    let loaded = Kallsyms::load(&memory(&written), &written.tables, &[]).unwrap();
    assert_eq!(loaded.find_all("probe"), [symbols[20].0, symbols[30].0]);
    assert_eq!(loaded.find("probe"), Some(symbols[20].0));
    assert_eq!(loaded.find("attach"), Some(symbols[40].0));
    assert_eq!(loaded.find("attach.llvm.1234567890"), Some(symbols[40].0));
    assert_eq!(loaded.find("attach.llvm.x1"), Some(symbols[50].0));
    assert_eq!(loaded.find("detach"), None);
    assert!(loaded.find_all("prob").is_empty());
}

#[test]
fn a_wrong_anchor_is_no_encoding() {
    let written = write(&functions(300), V6_15);
    let error = Kallsyms::load(&memory(&written), &written.tables, &[("_stext", KERNEL + 1)]);
    assert!(matches!(error, Err(KallsymsError::NoEncoding(_))), "{error:?}");
}

#[test]
fn a_table_that_is_not_there_is_named() {
    let mut written = write(&functions(300), V6_15);
    written.tables.offsets = KERNEL;
    match Kallsyms::load(&memory(&written), &written.tables, &[]) {
        Err(KallsymsError::Memory { table: "kallsyms_offsets", source }) => {
            assert_eq!(source.addr, KERNEL);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_impossible_count_takes_no_memory() {
    let written = write(&functions(300), V6_15);
    for num_syms in [0, u32::MAX] {
        let tables = kmortem_debuginfo::kallsyms::Tables { num_syms, ..written.tables.clone() };
        let error = Kallsyms::load(&memory(&written), &tables, &[]);
        assert!(matches!(error, Err(KallsymsError::Malformed { .. })), "{error:?}");
    }
}

#[test]
fn a_count_that_is_off_by_a_block_does_not_meet_the_markers() {
    let written = write(&functions(700), V6_15);
    let tables = kmortem_debuginfo::kallsyms::Tables { num_syms: 400, ..written.tables.clone() };
    assert!(Kallsyms::load(&memory(&written), &tables, &[]).is_err());
}

#[test]
fn markers_before_the_names_are_refused() {
    let written = write(&functions(300), V6_15);
    let tables = kmortem_debuginfo::kallsyms::Tables { markers: RODATA, ..written.tables.clone() };
    assert!(matches!(
        Kallsyms::load(&memory(&written), &tables, &[]),
        Err(KallsymsError::Malformed { table: "kallsyms_names", .. })
    ));
}

#[test]
fn tokens_that_are_no_text_are_refused() {
    let mut written = write(&functions(300), V6_15);
    // Somewhere in the first tokens.
    written.rodata[(written.tables.token_table - RODATA) as usize + 3] = 0x07;
    assert!(matches!(
        Kallsyms::load(&memory(&written), &written.tables, &[]),
        Err(KallsymsError::Malformed { table: "kallsyms_token_table", .. })
    ));
}

#[test]
fn addresses_at_the_end_of_the_address_space_do_not_wrap() {
    let written = write(&functions(300), V6_15);
    let tables = kmortem_debuginfo::kallsyms::Tables {
        names: u64::MAX - 16,
        markers: u64::MAX - 8,
        token_table: u64::MAX,
        token_index: u64::MAX,
        ..written.tables.clone()
    };
    assert!(Kallsyms::load(&memory(&written), &tables, &[]).is_err());
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let memory = Pieces(vec![(RODATA, vec![0; 1 << 20])]);
    assert!(matches!(Kallsyms::scan(&memory, RANGE, &[]), Err(KallsymsError::NotFound { .. })));
    assert!(Kallsyms::scan(&memory, u64::MAX - 100..u64::MAX, &[]).is_err());
    let backwards = std::ops::Range { start: RANGE.end, end: RANGE.start };
    assert!(Kallsyms::scan(&memory, backwards, &[]).is_err());
}

#[test]
fn tables_with_a_hole_in_them_are_not_filled_with_zeros() {
    let written = write(&functions(900), V6_4);
    // The page in which the names are is lost.
    let hole = (written.tables.names - RODATA) as usize / 4096 * 4096;
    let (before, rest) = written.rodata.split_at(hole);
    let memory = Pieces(vec![
        (RODATA, before.to_vec()),
        (RODATA + hole as u64 + 4096, rest[4096..].to_vec()),
    ]);
    assert!(Kallsyms::scan(&memory, RANGE, &[]).is_err());
    assert!(Kallsyms::load(&memory, &written.tables, &[]).is_err());
}

fn names() -> impl Strategy<Value = Vec<(u64, char, String)>> {
    let kind = prop::sample::select(vec!['t', 'T', 'd', 'D', 'r', 'W', 'b']);
    let symbol = (0_u64..0x2f_0000, kind, "[a-z_][a-z0-9_.]{0,60}");
    prop::collection::vec(symbol, 300..900).prop_map(|mut symbols| {
        symbols.sort();
        let moved = symbols.into_iter().map(|(addr, kind, name)| (KERNEL + addr, kind, name));
        with_borders(moved.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_written_is_read(symbols in names(), form in 0..19_usize) {
        let form = forms().nth(form).unwrap();
        let written = write(&symbols, form);
        let memory = memory(&written);
        let (_, scanned) = Kallsyms::scan(&memory, RANGE, &[("_stext", KERNEL)]).unwrap();
        prop_assert_eq!(&contents(&scanned), &symbols);
        let loaded = Kallsyms::load(&memory, &written.tables, &[]).unwrap();
        prop_assert_eq!(&contents(&loaded), &symbols);
        for (addr, _, name) in symbols.iter().step_by(7) {
            prop_assert!(loaded.find_all(name).contains(addr));
            prop_assert_eq!(loaded.lookup(*addr).unwrap().addr, *addr);
        }
    }

    #[test]
    fn damage_is_no_panic(at in 0..4096_usize, byte: u8, form in 0..19_usize) {
        let form = forms().nth(form).unwrap();
        let mut written = write(&functions(600), form);
        let first = written.tables.names.min(written.tables.offsets) - RODATA;
        let span = written.rodata.len() / 16;
        written.rodata[first as usize + at * span / 4096] ^= byte;
        let memory = memory(&written);
        for loaded in [
            Kallsyms::load(&memory, &written.tables, &[]).ok(),
            Kallsyms::scan(&memory, RANGE, &[]).ok().map(|(_, found)| found),
        ].into_iter().flatten() {
            prop_assert_eq!(loaded.iter().count(), loaded.len());
            loaded.find("sys_read_0");
            loaded.lookup(KERNEL + 0x1234);
        }
    }
}
