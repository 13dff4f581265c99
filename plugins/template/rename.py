"""Give a copy of this package another name: ``python rename.py my_name``."""

import re
import sys
from pathlib import Path


def main(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        sys.exit(f"{name!r}: expected small letters, digits and single _ between them, such as my_name.")
    folder, this = Path(__file__).parent, Path(__file__)
    camel = "".join(word.capitalize() for word in name.split("_"))
    words = {"smp-feedback-template": f"smp-feedback-{name.replace('_', '-')}", "Template": camel, "template": name}
    this.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if {".git", ".venv", "__pycache__"} & set(path.relative_to(folder).parts):
            continue
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            for old, new in words.items():
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")
        if "template" in path.name:
            path.rename(path.with_name(path.name.replace("template", name)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python rename.py my_name")
    main(sys.argv[1])
