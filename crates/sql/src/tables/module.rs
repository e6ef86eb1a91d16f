//! `modules`: the loaded modules.

use kmortem_kernel::Kernel;
use kmortem_kernel::module::Module;

use crate::cell::{hex, list, word};
use crate::schema::{Column, FillError, Rows, Table};

pub(crate) const MODULES: Table<Module> = Table {
    name: "modules",
    doc: "a loaded module",
    columns: &[
        Column::address("addr", "its `struct module`", |_, m| hex(m.addr)),
        Column::text("name", "its name", |_, m| m.name.as_str().into()),
        Column::text("state", "live, coming, going or unformed", |_, m| word(&m.state)),
        Column::address("base", "where its code begins", |_, m| hex(m.base())),
        Column::quantity("size", "bytes", "memory that stays while it is loaded", |_, m| {
            m.core_size().into()
        }),
        Column::integer("refcount", "who needs it", |_, m| m.refcount.into()),
        Column::text("used_by", "modules that need it", |_, m| list(&m.used_by)),
        Column::text("taints", "letters of what it taints the kernel with", |_, m| {
            Some(m.taint_letters()).filter(|letters| !letters.is_empty()).into()
        }),
        Column::text("version", "version that it claims", |_, m| m.version.as_deref().into()),
        Column::text("srcversion", "checksum of its sources", |_, m| {
            m.srcversion.as_deref().into()
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, Module>) -> Result<(), FillError> {
    if let Some(error) = kernel.modules_broken() {
        rows.remark(format_args!("some may be missing: {error}"));
    }
    kernel.modules()?.iter().try_for_each(|module| rows.push(module))
}
