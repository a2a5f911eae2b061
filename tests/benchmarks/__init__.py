"""Our uploader and its peers, measured against a sink on this machine.

    python -m tests.benchmarks            # about twelve minutes; the table of goals
    python -m tests.benchmarks --quick    # less than three, with smaller files

Linux with two cores, nginx, and ``chunkup-jupyter[bench]``. The client has a core of its
own, the sink the other; peers are used as their documentation says, with the same part
size and as many parts at once, interleaved with ours. Ratios are medians of those of
one round, so what else the machine does hits both sides.

What was tried and did not help (2 cores, Linux 6.18, Python 3.12, 2026-11): blocks of 2
to 8 MiB instead of 1 MiB (as fast, more memory); TLS in pieces of 64, 128 KiB or 1 MiB
instead of 512 KiB (as fast or slower); hashing in blocks of 64 KiB to 4 MiB (MD5 itself is
all of it: 1.5 s of CPU for each GiB); uvloop (nothing for bulk TLS); a socket that TLS
writes to by itself, in threads (as fast, and a system call for every 16 KiB); bodies over
pyreqwest (a quarter slower than the stock transport has become) or over libcurl (a tenth
slower, though alone it is as fast as bare asyncio; both with more memory); ciphers with
shorter keys. What did: connections of our own instead of anyio's, no copy of each block
on its way, room for a whole block in the system, blocks of 1 MiB with TLS in pieces of
512 KiB (a tenth, together), one alarm for many deadlines, MD5 in threads.
"""
