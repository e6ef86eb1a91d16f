"""Open files, roots and working directories of tasks."""

from drgn.helpers.linux.fs import d_path, for_each_file

from common import addr, tasks, text

def row(fd, file):
    inode = file.f_inode.read_()
    row = {
        "fd": fd,
        "file": addr(file),
        "dentry": addr(file.f_path.dentry),
        "inode": addr(inode),
        "position": file.f_pos.value_(),
    }
    # drgn does not ask d_dname for the name: it gives the file system's instead.
    path = text(d_path(file.f_path.address_of_()))
    if not path.startswith("["):
        row["path"] = path
    return row


def rows(prog):
    for task in tasks(prog):
        files = None
        if task.files and task.fs:
            files = {
                "root": text(d_path(task.fs.root.address_of_())),
                "cwd": text(d_path(task.fs.pwd.address_of_())),
                # A descriptor may be reserved for a file that is still to come.
                "list": [row(fd, file) for fd, file in for_each_file(task) if file],
            }
        yield {"addr": addr(task), "files": files}
