//! Seconds since 1970 as a date, in UTC: a dump is read elsewhere than it was
//! made, and the machine's own time zone is not in the kernel.

/// `Mon Nov 23 06:48:03 UTC 2026`, the form of date(1) in the C locale.
pub fn utc(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, s) = (seconds / 86400, seconds % 86400);
    let (year, month, day) = civil(days);
    format!(
        "{} {} {day:>2} {:02}:{:02}:{:02} UTC {year}",
        DAYS[(days % 7) as usize],
        MONTHS[month],
        s / 3600,
        s / 60 % 60,
        s % 60
    )
}

/// (year, month from 0, day of the month) of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole cycles of 400 years have the same number of days.
    let (mut year, mut rest) = (1970 + days / 146_097 * 400, days % 146_097);
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_agree_with_date_1() {
        assert_eq!(utc(0), "Thu Jan  1 00:00:00 UTC 1970");
        assert_eq!(utc(951_782_400), "Tue Feb 29 00:00:00 UTC 2000");
        assert_eq!(utc(1_795_416_483), "Mon Nov 23 06:48:03 UTC 2026");
        assert_eq!(utc(4_102_444_799), "Thu Dec 31 23:59:59 UTC 2099");
        assert_eq!(utc(13_574_563_200), "Tue Feb 29 00:00:00 UTC 2400");
    }

    #[test]
    fn any_number_is_a_date() {
        assert!(utc(u64::MAX).contains("UTC"));
    }
}
