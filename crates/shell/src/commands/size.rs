//! Sizes as crash writes them.

/// "217.2 MB", "36 KB": one digit behind the point, none where it is zero.
pub(super) fn bytes(n: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let tenth = |unit: u64, name: &str| {
        let text = format!("{:.1}", n as f64 / unit as f64);
        format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match n {
        0 => "0".to_owned(),
        n if n >= GIB => tenth(GIB, "GB"),
        n if n >= MIB => tenth(MIB, "MB"),
        n => format!("{} KB", n / 1024),
    }
}

/// `text` in the middle of `width` columns, the odd blank behind it.
pub(super) fn centered(text: &str, width: usize) -> String {
    format!("{text:^width$}")
}

/// `text` in the middle of `width` columns, the odd blank before it.
pub(super) fn centered_right(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text.len());
    format!("{}{text}{}", " ".repeat(blanks.div_ceil(2)), " ".repeat(blanks / 2))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!(bytes(0), "0");
        assert_eq!(bytes(9 * 4096), "36 KB");
        assert_eq!(bytes(8452 * 4096), "33 MB");
        assert_eq!(bytes(55591 * 4096), "217.2 MB");
        assert_eq!(bytes(3 << 29), "1.5 GB");
    }
}
