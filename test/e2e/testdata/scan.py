"""Prints the files below DIR that hold MARKER in clear, base64 or quoted-printable: scan.py DIR MARKER"""
import base64
import os
import stat
import sys

root, marker = sys.argv[1], sys.argv[2].encode()
needles = [marker, b"".join(b"=%02X" % c for c in marker)]
for shift in range(3):
    enc = base64.b64encode(b"\0" * shift + marker)
    needles.append(enc[4 if shift else 0 : len(enc) - 4])
for folder, _, files in os.walk(root):
    for name in files:
        path = os.path.join(folder, name)
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            data = open(path, "rb").read()
        except FileNotFoundError:
            continue
        joined = data.replace(b"=\r\n", b"").replace(b"=\n", b"").replace(b"\r", b"").replace(b"\n", b"")
        if any(n in data or n in joined for n in needles):
            print(path)
