"""The files that the structure rules look at. git is not needed: an unpacked archive has none."""

import os
import pathlib
from functools import cached_property

import source

C_SUFFIXES = (".cpp", ".hpp", ".c", ".h")
CODE_SUFFIXES = C_SUFFIXES + (".py", ".sh", ".cmake")
CODE_NAMES = ("CMakeLists.txt", "Dockerfile")
IGNORED_DIRECTORIES = ("__pycache__", "node_modules")
HIDDEN_DIRECTORIES_READ = (".ci", ".github")


class File:
    """One text file. `path` is relative to the tree, with slashes."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.name = path.rpartition("/")[2]
        self.suffix = pathlib.PurePosixPath(path).suffix
        self.top = path.partition("/")[0] if "/" in path else ""
        self.lines = text.splitlines()

    @cached_property
    def is_c(self):
        """C or C++, source or header."""
        return self.suffix in C_SUFFIXES

    @cached_property
    def is_code(self):
        """Anything a compiler, a build tool or an interpreter reads."""
        shebang = self.text.startswith("#!")
        return self.suffix in CODE_SUFFIXES or self.name in CODE_NAMES or shebang

    @cached_property
    def without_comments(self):
        """See source.without_comments()."""
        return source.without_comments(self.text)

    @cached_property
    def code(self):
        """See source.code_only()."""
        return source.code_only(self.text)


class Tree:
    """All text files under `root` but what builds and tools have left there."""

    def __init__(self, root, search_path=None):
        """`search_path`: where clang-format is looked for; by default where the shell looks."""
        self.root = pathlib.Path(root)
        self.search_path = search_path
        self.files = sorted(self._read(), key=lambda file: file.path)

    def _read(self):
        for folder, directories, names in os.walk(self.root):
            directories[:] = [name for name in directories if self._is_read(folder, name)]
            for name in names:
                path = pathlib.Path(folder, name)
                if path.is_symlink() or name == ".git":  # a file in a linked work tree
                    continue
                try:
                    text = path.read_text(encoding="utf-8")
                except (UnicodeDecodeError, FileNotFoundError):
                    continue  # not a text, or an editor's file that has just gone
                yield File(path.relative_to(self.root).as_posix(), text)

    def _is_read(self, folder, name):
        if name.startswith("."):
            return name in HIDDEN_DIRECTORIES_READ
        is_build = name.startswith("build") and pathlib.Path(folder) == self.root
        return name not in IGNORED_DIRECTORIES and not is_build

    def c_files(self):
        """The C and C++ files."""
        return [file for file in self.files if file.is_c]

    def code_files(self):
        """Every source, script and build file."""
        return [file for file in self.files if file.is_code]
