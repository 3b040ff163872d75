# SPDX-License-Identifier: BSD-3-Clause
"""A kernel that has vDPA devices: Debian's own, and the modules that it was not built with.

How it works: Debian's backported kernel has the vDPA core, vhost-vdpa and VDUSE.  The simulators,
vp_vdpa and what they need are built against its headers from Debian's package of its source, which
is quicker than a kernel of our own by far.  Kernel, headers and source are unpacked for that and
thrown away; what is kept is the kernel and the modules, without their debugging information.  The
key of the cache is the version of the packages together with everything that decides the result:
this file and those beside it that it reads.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import tempfile
from pathlib import Path

import debian
import initramfs
from debian import ImageError

SERIES = '6.12'
SOURCE_PACKAGE = f'linux-source-{SERIES}'
ARCHITECTURE = 'amd64'
KBUILD = Path(__file__).parent / 'vdpa' / 'Kbuild'
SOURCES = ('*/drivers/vhost/vringh.c', '*/drivers/vdpa/vdpa_sim/*.[ch]',
           '*/drivers/vdpa/virtio_pci/vp_vdpa.c')
STOCK_MODULES = ('vhost_vdpa', 'vduse', '9p', '9pnet_virtio')
BUILD_TIMEOUT_S = 600.0

# A virtio-net-pci of QEMU 7.2 says that it has three queues until a driver takes MQ, which each
# reset undoes, and vp_vdpa counts when it binds: it would never offer a second pair.  So let it
# count what the device's configuration promises.
QUEUE_COUNT = """\
#include <linux/virtio_net.h>

static u16 count_queues(struct virtio_pci_modern_device *mdev)
{
	const size_t at = offsetof(struct virtio_net_config, max_virtqueue_pairs);
	u16 queues = vp_modern_get_num_queues(mdev);

	if (mdev->id.device == VIRTIO_ID_NET &&
	    vp_modern_get_features(mdev) & BIT_ULL(VIRTIO_NET_F_MQ))
		queues = max_t(u16, queues, 2 * vp_ioread16((__le16 __iomem *)(mdev->device + at)) + 1);
	return queues;
}

"""


def kernel() -> Path:
    """A folder with `vmlinuz` and the modules; made when it is not there."""
    digest = hashlib.sha256(_listed_version().encode())
    for file in (Path(__file__), KBUILD):
        digest.update(file.read_bytes())
    return debian.make_cached(f'vdpa-kernel-{digest.hexdigest()[:16]}', _make)


def _listed_version() -> str:
    """The version that this machine's package lists offer; they may be missing."""
    try:
        return debian.Archive().version(SOURCE_PACKAGE)
    except ImageError:
        return ''


def _make(archive: debian.Archive, directory: Path) -> None:
    for tool in ('make', 'xz', 'tar', 'strip'):
        debian.program(tool)
    release = _release(archive)
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        root, source = Path(name) / 'root', Path(name) / 'source'
        archive.unpack(_packages(release), root)
        source.mkdir()
        _build(root, f'{release}-{ARCHITECTURE}', source)
        stock = root / 'lib' / 'modules' / f'{release}-{ARCHITECTURE}'
        for module in source.glob('*.ko'):
            _keep(module.read_bytes(), directory / module.name, stock)
        for module_name in STOCK_MODULES:
            _keep_stock(module_name, directory, stock)
        (root / 'boot' / f'vmlinuz-{release}-{ARCHITECTURE}').rename(directory / 'vmlinuz')


def _release(archive: debian.Archive) -> str:
    """The kernel made of the source package: 6.12.1-1~deb12u1 is 6.12.1+deb12."""
    upstream = archive.version(SOURCE_PACKAGE).partition('-')[0]
    names = archive.names(rf'linux-headers-{re.escape(upstream)}\+deb[0-9]+-{ARCHITECTURE}')
    if not names:
        raise ImageError(f'no kernel is packaged for {SOURCE_PACKAGE} {upstream}')
    return names[-1].removeprefix('linux-headers-').removesuffix(f'-{ARCHITECTURE}')


def _packages(release: str) -> list[str]:
    return [SOURCE_PACKAGE, f'linux-image-{release}-{ARCHITECTURE}-unsigned',
            f'linux-headers-{release}-{ARCHITECTURE}', f'linux-headers-{release}-common',
            f'linux-kbuild-{release}']


def _build(root: Path, full_release: str, source: Path) -> None:
    """Build the modules in `source` against the headers unpacked in `root`."""
    archive = root / 'usr' / 'src' / f'{SOURCE_PACKAGE}.tar.xz'
    debian.output(['tar', '-x', '--use-compress-program=xz -T0', '-f', archive, '-C', source,
                   '--wildcards', '--transform=s,.*/,,', *SOURCES])
    vp_vdpa = source / 'vp_vdpa.c'
    vp_vdpa.write_text(_count_all_queues(vp_vdpa.read_text()))
    (source / 'Kbuild').write_bytes(KBUILD.read_bytes())
    headers = root / 'usr' / 'src' / f'linux-headers-{full_release}'
    # The one path in there that is absolute.
    makefile = headers / 'Makefile'
    makefile.write_text(makefile.read_text().replace('include /usr/', f'include {root}/usr/'))
    # Without the variable the build wants pahole, which only a kernel with BTF has a use for.
    debian.output(['make', f'-j{len(os.sched_getaffinity(0))}', '-C', headers, f'M={source}',
                   'CONFIG_DEBUG_INFO_BTF_MODULES=', 'modules'], timeout_s=BUILD_TIMEOUT_S)


def _count_all_queues(vp_vdpa: str) -> str:
    """The source of vp_vdpa with QUEUE_COUNT in it, and used."""
    call, place = 'vp_modern_get_num_queues(mdev)', 'static struct vp_vdpa *vdpa_to_vp('
    if call not in vp_vdpa or vp_vdpa.count(place) != 1:
        raise ImageError(f'vp_vdpa.c of {SOURCE_PACKAGE} has changed: no {call} or {place}')
    return vp_vdpa.replace(call, 'count_queues(mdev)').replace(place, QUEUE_COUNT + place)


def _keep_stock(name: str, directory: Path, stock: Path) -> None:
    """Keep a module of the package, unless we have it or it is part of the kernel proper."""
    if (directory / f'{name}.ko').exists():
        return
    for path in stock.rglob('*.ko*'):
        if path.name.partition('.')[0].replace('-', '_') == name:
            data = path.read_bytes()
            _keep(lzma.decompress(data) if path.suffix == '.xz' else data,
                  directory / f'{name}.ko', stock)


def _keep(data: bytes, path: Path, stock: Path) -> None:
    """Write a module to `path`, stripped, and those that it needs beside it."""
    path.write_bytes(data)
    debian.output(['strip', '--strip-debug', path])
    for needed in initramfs.module_dependencies(data):
        _keep_stock(needed, path.parent, stock)
