//! Tables as scripts/kallsyms.c writes them, in every form that they had.

use std::collections::BTreeMap;

use kmortem_debuginfo::kallsyms::Tables;

/// Where the tables are put: in the middle of a piece of read-only data.
pub(crate) const KERNEL: u64 = 0xffff_ffff_a500_0000;
pub(crate) const RODATA: u64 = KERNEL + 0x40_0000;
pub(crate) const RODATA_SIZE: usize = 0x10_0000;
const TABLES: usize = 0x3_0128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Absolute,
    BaseRelative,
    AbsolutePercpu,
    PlaceRelative,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Addresses first.
    UpTo63 { seqs: bool },
    /// Addresses last.
    Since64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) encoding: Encoding,
    pub(crate) order: Order,
    pub(crate) long_lengths: bool,
    pub(crate) alignment: usize,
}

pub(crate) type Sym = (u64, char, String);

pub(crate) struct Written {
    pub(crate) tables: Tables,
    /// The piece of read-only data at [`RODATA`].
    pub(crate) rodata: Vec<u8>,
}

/// Symbols that every kernel has, around those of the test.
pub(crate) fn with_borders(mut symbols: Vec<Sym>) -> Vec<Sym> {
    for (addr, kind, name) in [
        (KERNEL, 'T', "_text"),
        (KERNEL, 'T', "_stext"),
        (KERNEL + 0x30_0000, 'T', "_etext"),
        (RODATA, 'D', "__start_rodata"),
        (RODATA + RODATA_SIZE as u64, 'D', "__end_rodata"),
        (RODATA + 0x20_0000, 'B', "_end"),
    ] {
        symbols.push((addr, kind, name.to_owned()));
    }
    symbols.sort_by_key(|(addr, ..)| *addr);
    symbols
}

/// `symbols` sorted by address.
pub(crate) fn write(symbols: &[Sym], form: Form) -> Written {
    let texts: Vec<Vec<u8>> =
        symbols.iter().map(|(_, kind, name)| format!("{kind}{name}").into_bytes()).collect();
    let (tokens, compressed) = compress(texts);
    let mut names = Vec::new();
    let mut markers = Vec::new();
    for (index, name) in compressed.iter().enumerate() {
        if index % 256 == 0 {
            markers.extend((names.len() as u32).to_le_bytes());
        }
        if form.long_lengths && name.len() > 0x7f {
            names.extend([name.len() as u8 & 0x7f | 0x80, (name.len() >> 7) as u8]);
        } else {
            names.push(u8::try_from(name.len()).unwrap());
        }
        names.extend(name);
    }
    let mut token_table = Vec::new();
    let mut token_index = Vec::new();
    for token in &tokens {
        token_index.extend((token_table.len() as u16).to_le_bytes());
        token_table.extend(token);
        token_table.push(0);
    }
    let seqs: Vec<u8> = (0..symbols.len() as u32)
        .rev()
        .flat_map(|i| [(i >> 16) as u8, (i >> 8) as u8, i as u8])
        .collect();

    // Noise that is the same in each run, and no zeros for long.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut rodata: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(RODATA_SIZE)
    .collect();
    let mut at = TABLES;
    let mut put = |bytes: &[u8]| {
        let start = at.next_multiple_of(form.alignment);
        rodata[at..start].fill(0);
        rodata[start..][..bytes.len()].copy_from_slice(bytes);
        at = start + bytes.len();
        RODATA + start as u64
    };
    let count = (symbols.len() as u32).to_le_bytes();
    let mut tables = Tables {
        num_syms: symbols.len() as u32,
        names: 0,
        markers: 0,
        token_table: 0,
        token_index: 0,
        offsets: 0,
        relative_base: None,
        seqs_of_names: None,
    };
    let base = KERNEL;
    let has_base = matches!(form.encoding, Encoding::BaseRelative | Encoding::AbsolutePercpu);
    if let Order::UpTo63 { seqs: has_seqs } = form.order {
        let at = (RODATA + TABLES as u64).next_multiple_of(form.alignment as u64);
        tables.offsets = put(&addresses(symbols, form.encoding, base, at));
        tables.relative_base = has_base.then(|| put(&base.to_le_bytes()));
        put(&count);
        tables.names = put(&names);
        tables.markers = put(&markers);
        tables.seqs_of_names = has_seqs.then(|| put(&seqs));
        tables.token_table = put(&token_table);
        tables.token_index = put(&token_index);
    } else {
        put(&count);
        tables.names = put(&names);
        tables.markers = put(&markers);
        tables.token_table = put(&token_table);
        tables.token_index = put(&token_index);
        let at = (tables.token_index + 512).next_multiple_of(form.alignment as u64);
        tables.offsets = put(&addresses(symbols, form.encoding, base, at));
        tables.relative_base = has_base.then(|| put(&base.to_le_bytes()));
        tables.seqs_of_names = Some(put(&seqs));
    }
    put(&[0; 8]);
    Written { tables, rodata }
}

fn addresses(symbols: &[Sym], encoding: Encoding, base: u64, at: u64) -> Vec<u8> {
    let words = symbols.iter().zip(0..).map(|((addr, ..), index)| match encoding {
        Encoding::Absolute => *addr,
        Encoding::BaseRelative => addr - base,
        Encoding::AbsolutePercpu if *addr < 1 << 31 => *addr,
        Encoding::AbsolutePercpu => base.wrapping_sub(*addr).wrapping_sub(1),
        Encoding::PlaceRelative => addr.wrapping_sub(at + 4 * index),
    });
    match encoding {
        Encoding::Absolute => words.flat_map(u64::to_le_bytes).collect(),
        _ => words.flat_map(|word| (word as u32).to_le_bytes()).collect(),
    }
}

/// Replaces frequent pairs by byte values that no name uses, as often as there are any.
fn compress(mut texts: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut tokens: Vec<Vec<u8>> = vec![Vec::new(); 256];
    for byte in (b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z').chain(*b"_.$") {
        tokens[usize::from(byte)] = vec![byte];
    }
    for byte in 0..=u8::MAX {
        if !tokens[usize::from(byte)].is_empty() {
            continue;
        }
        let mut pairs: BTreeMap<[u8; 2], u32> = BTreeMap::new();
        for pair in texts.iter().take(300).flat_map(|text| text.windows(2)) {
            *pairs.entry([pair[0], pair[1]]).or_default() += 1;
        }
        let Some((&pair, _)) = pairs.iter().filter(|(_, n)| **n > 2).max_by_key(|(_, n)| **n)
        else {
            break;
        };
        let token = pair.iter().flat_map(|&half| tokens[usize::from(half)].clone()).collect();
        tokens[usize::from(byte)] = token;
        for text in &mut texts {
            let mut at = 0;
            while at + 1 < text.len() {
                if text[at..at + 2] == pair {
                    text[at] = byte;
                    text.remove(at + 1);
                }
                at += 1;
            }
        }
    }
    (tokens, texts)
}
