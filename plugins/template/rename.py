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
    one = re.compile("|".join(words))
    paths = [path for path in sorted(folder.rglob("*"), reverse=True) if path != this and not left_alone(path, folder)]
    texts = {path: text for path in paths if path.is_file() and (text := text_of(path)) is not None}
    for path, text in texts.items():  # all were read: nothing is left half renamed
        path.write_text(one.sub(lambda found: words[found[0]], text), encoding="utf-8")
    for path in paths:  # what is in a folder before the folder
        if "template" in path.name:
            path.rename(path.with_name(path.name.replace("template", name)))
    this.unlink()


def left_alone(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return any(part in (".git", ".venv", "__pycache__") or part.endswith("_cache") for part in parts)


def text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # a picture, say
        return None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python rename.py my_name")
    main(sys.argv[1])
