//! BTF, record by record.

use std::collections::HashMap;

pub(crate) const INT: u32 = 1;
pub(crate) const PTR: u32 = 2;
pub(crate) const ARRAY: u32 = 3;
pub(crate) const STRUCT: u32 = 4;
pub(crate) const UNION: u32 = 5;
pub(crate) const ENUM: u32 = 6;
pub(crate) const FWD: u32 = 7;
pub(crate) const TYPEDEF: u32 = 8;
pub(crate) const VOLATILE: u32 = 9;
pub(crate) const CONST: u32 = 10;
pub(crate) const RESTRICT: u32 = 11;
pub(crate) const FUNC: u32 = 12;
pub(crate) const FUNC_PROTO: u32 = 13;
pub(crate) const VAR: u32 = 14;
pub(crate) const DATASEC: u32 = 15;
pub(crate) const FLOAT: u32 = 16;
pub(crate) const DECL_TAG: u32 = 17;
pub(crate) const TYPE_TAG: u32 = 18;
pub(crate) const ENUM64: u32 = 19;

pub(crate) const SIGNED: u32 = 1;

pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    known: HashMap<String, u32>,
    next_id: u32,
    first_string: u32,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            types: Vec::new(),
            strings: vec![0],
            known: HashMap::from([(String::new(), 0)]),
            next_id: 1,
            first_string: 0,
        }
    }

    /// BTF that continues `base`.
    pub(crate) fn on(base: &Builder) -> Builder {
        let first_string = base.first_string + base.strings.len() as u32;
        Builder {
            types: Vec::new(),
            strings: Vec::new(),
            known: base.known.clone(),
            next_id: base.next_id,
            first_string,
        }
    }

    pub(crate) fn string(&mut self, text: &str) -> u32 {
        if let Some(&offset) = self.known.get(text) {
            return offset;
        }
        let offset = self.first_string + self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        self.known.insert(text.to_owned(), offset);
        offset
    }

    /// Any record.
    pub(crate) fn record(
        &mut self,
        kind: u32,
        name: &str,
        flag: bool,
        vlen: usize,
        last: u32,
        more: &[u32],
    ) -> u32 {
        let name = self.string(name);
        let info = u32::from(flag) << 31 | kind << 24 | vlen as u32;
        for word in [name, info, last].iter().chain(more) {
            self.types.extend(word.to_le_bytes());
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Words after the last record.
    pub(crate) fn append(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    pub(crate) fn int(&mut self, name: &str, size: u32, encoding: u32) -> u32 {
        self.record(INT, name, false, 0, size, &[(encoding << 24) | (size * 8)])
    }

    pub(crate) fn to(&mut self, kind: u32, target: u32) -> u32 {
        self.record(kind, "", false, 0, target, &[])
    }

    pub(crate) fn named(&mut self, kind: u32, name: &str, target: u32) -> u32 {
        self.record(kind, name, false, 0, target, &[])
    }

    pub(crate) fn array(&mut self, of: u32, len: u32) -> u32 {
        self.record(ARRAY, "", false, 0, 0, &[of, of, len])
    }

    /// Members: (name, type, offset in bits).
    pub(crate) fn composite(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let words = self.members(members);
        self.record(kind, name, false, members.len(), size, &words)
    }

    /// Members: (name, type, offset in bits, width).
    pub(crate) fn bitfields(
        &mut self,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32, u32)],
    ) -> u32 {
        let members: Vec<_> =
            members.iter().map(|&(n, t, at, bits)| (n, t, bits << 24 | at)).collect();
        let words = self.members(&members);
        self.record(STRUCT, name, true, members.len(), size, &words)
    }

    pub(crate) fn proto(&mut self, result: u32, parameters: &[(&str, u32)]) -> u32 {
        let words: Vec<u32> =
            parameters.iter().flat_map(|&(name, ty)| [self.string(name), ty]).collect();
        self.record(FUNC_PROTO, "", false, parameters.len(), result, &words)
    }

    pub(crate) fn enumeration(&mut self, name: &str, signed: bool, values: &[(&str, i32)]) -> u32 {
        let words: Vec<u32> =
            values.iter().flat_map(|&(name, value)| [self.string(name), value as u32]).collect();
        self.record(ENUM, name, signed, values.len(), 4, &words)
    }

    fn members(&mut self, members: &[(&str, u32, u32)]) -> Vec<u32> {
        members.iter().flat_map(|&(name, ty, at)| [self.string(name), ty, at]).collect()
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        self.finish_with_layout(&[])
    }

    /// `layout`: (info_sz, elem_sz) per kind.
    pub(crate) fn finish_with_layout(&self, layout: &[(u8, u8)]) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let header = if layout.is_empty() { 24 } else { 32_u32 };
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        for word in [header, 0, types, types, strings] {
            blob.extend(word.to_le_bytes());
        }
        if !layout.is_empty() {
            blob.extend((types + strings).to_le_bytes());
            blob.extend((layout.len() as u32 * 4).to_le_bytes());
        }
        blob.extend(&self.types);
        blob.extend(&self.strings);
        blob.extend(layout.iter().flat_map(|&(info, elem)| [info, elem, 0, 0]));
        blob
    }
}
