//! The symbols that Xen carries, after Xen's xen/tools/symbols.c.

/// The tables of `symbols` (offset, type and name), ascending. Every character is a token of its
/// own but 0, which is "conring".
pub fn xen_symbols(symbols: &[(u32, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let offsets = symbols.iter().map(|(offset, _)| offset);
    offsets.for_each(|offset| bytes.extend(offset.to_le_bytes()));
    bytes.extend((symbols.len() as u32).to_le_bytes());
    let mut names = Vec::new();
    let mut markers = Vec::new();
    for (index, (_, name)) in symbols.iter().enumerate() {
        if index % 256 == 0 {
            markers.push(names.len() as u32);
        }
        let packed = name.replace("conring", "\0");
        names.push(packed.len() as u8);
        names.extend(packed.as_bytes());
    }
    bytes.extend(names);
    pad(&mut bytes, 4);
    markers.iter().for_each(|marker| bytes.extend(marker.to_le_bytes()));
    let mut places: Vec<u16> = Vec::new();
    let mut tokens = Vec::new();
    for token in 0..=u8::MAX {
        places.push(tokens.len() as u16);
        match token {
            0 => tokens.extend(b"conring"),
            token => tokens.push(token),
        }
        tokens.push(0);
    }
    bytes.extend(tokens);
    pad(&mut bytes, 2);
    places.iter().for_each(|place| bytes.extend(place.to_le_bytes()));
    bytes
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}
