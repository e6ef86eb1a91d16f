//! Audit records that no daemon has got.
//!
//! kernel/audit.c queues them as `struct sk_buff`, each with a netlink message:
//! `struct nlmsghdr` (16 bytes, its type at 4), then text. The queues are
//! `audit_hold_queue`, `audit_retry_queue` and `audit_queue`
//! (`struct sk_buff_head`) since v4.10.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::{Kernel, layout};

layout! {
    /// `struct sk_buff_head`, include/linux/skbuff.h
    pub struct SkBuffHeadLayout for "sk_buff_head" {
        list: Embedded = "list" | "next",
    }
}

layout! {
    /// `struct sk_buff`, include/linux/skbuff.h
    pub struct AuditSkbLayout for "sk_buff" {
        list: Embedded = "list" | "next",
        data: u64 = "data",
        len: u32 = "len",
    }
}

/// Bytes of `struct nlmsghdr`.
const HEADER: u64 = 16;
/// `MAX_AUDIT_MESSAGE_LENGTH` is 8970.
const LONGEST: u32 = 1 << 16;
/// Records of one queue (`audit_backlog_limit` is 64 by default).
const MOST: usize = 1 << 20;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRecord {
    /// The queue that it waits in.
    pub queue: &'static str,
    /// Its type (`AUDIT_*`, include/uapi/linux/audit.h).
    pub kind: u16,
    /// Its text.
    pub text: String,
}

impl Kernel {
    /// The records, those that wait longest first.
    pub fn audit_records(&self) -> Result<(Vec<AuditRecord>, Gaps)> {
        let (mut records, mut gaps) = (Vec::new(), Gaps::default());
        let mut found = Err(Error::NoSymbol("audit_queue".into()));
        for queue in ["audit_hold_queue", "audit_retry_queue", "audit_queue"] {
            let Ok(head) = self.symbol(queue) else { continue };
            found = Ok(());
            let list = self.layout::<SkBuffHeadLayout>()?.list.address(head)?;
            let link = self.layout::<AuditSkbLayout>()?.list.offset()?;
            for skb in self.list(list, link, "audit records").take(MOST) {
                let record = skb.and_then(|skb| self.audit_record(queue, skb));
                records.extend(gaps.keep("audit records", record));
            }
        }
        found.map(|()| (records, gaps))
    }

    fn audit_record(&self, queue: &'static str, skb: u64) -> Result<AuditRecord> {
        let layout = self.layout::<AuditSkbLayout>()?;
        let data = layout.data.read(self, skb)?;
        let len = layout.len.read(self, skb)?;
        if !(HEADER as u32..LONGEST).contains(&len) {
            return Err(Error::corrupt(format!("an audit record of {len} bytes"), skb));
        }
        let message = self.read_bytes(data, u64::from(len))?;
        let (header, text) = message.split_at(HEADER as usize);
        let kind = header.get(4..6).and_then(|k| k.try_into().ok()).map_or(0, u16::from_le_bytes);
        let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
        Ok(AuditRecord { queue, kind, text: String::from_utf8_lossy(&text[..end]).into_owned() })
    }
}
