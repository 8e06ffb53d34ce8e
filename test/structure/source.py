"""Reading sources: comments and strings blanked out, and where each function begins and ends."""

import ast
import re

# One token that must not be searched for braces or words. Numbers come before character literals,
# for the sake of digit separators (1'000); raw strings before plain ones.
TOKEN = re.compile(
    r"""
    (?P<comment> //(?:\\\n|[^\n])* | /\*.*?\*/ )
  | (?P<number>  (?<![\w])\d(?:[\w.]|'\w)* )
  | (?P<raw>     \b(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)" )
  | (?P<string>  "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    """,
    re.VERBOSE | re.DOTALL,
)
DIRECTIVE = re.compile(r"^[ \t]*\#(?:\\\n|[^\n])*", re.MULTILINE)
NAMESPACE = re.compile(r"\bnamespace\b[^=;{}()]*(?:\([^()]*\)\s*)?$")
ACCESS = re.compile(r"\s*(?:public|protected|private)\s*:(?!:)")
ATTRIBUTE = re.compile(r"\[\[.*?\]\]|\balignas\s*\([^()]*\)|__attribute__\s*\(\(.*?\)\)", re.DOTALL)
SCOPE_WORD = re.compile(r"(?:(?:typedef|static|inline|const|friend)\s+)*(class|struct|union)\b")
CONSTRAINED_CLASS = re.compile(
    r"\)\s*(?:class|struct)\s+\w+\s*(?:final\s*)?(?::[^:].*)?$", re.DOTALL
)
MEMBER_INITIALISERS = re.compile(r"\)\s*(?:noexcept\s*(?:\([^()]*\))?\s*)?:(?!:)")
LAMBDA_WITHOUT_PARENS = re.compile(r"=\s*\[[^\]]*\]\s*(?:mutable\s*)?$")


def spaces(text):
    """As many characters and lines as `text`, all blank."""
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    """C or C++ with its comments blanked out; strings stay."""
    return TOKEN.sub(lambda m: spaces(m[0]) if m["comment"] is not None else m[0], text)


def code_only(text):
    """C or C++ with comments, strings and preprocessor directives blanked out."""
    text = TOKEN.sub(lambda m: m[0] if m["number"] is not None else spaces(m[0]), text)
    return DIRECTIVE.sub(lambda m: spaces(m[0]), text)


def line_of(text, index):
    """The 1-based line of a character."""
    return text.count("\n", 0, index) + 1


def closing_brace(code, opening):
    """The index of the brace that closes the one at `opening`; the end of the text if none does."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(code, opening):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    return len(code) - 1


def strip_templates(head):
    """`head` without leading `template <...>`, whose arguments may themselves have brackets."""
    while match := re.match(r"\s*template\s*<", head):
        depth, end = 1, match.end()
        while end < len(head) and depth > 0:
            depth += {"<": 1, ">": -1}.get(head[end], 0)
            end += 1
        head = head[end:]
    return head.strip()


def kind_of_brace(head):
    """What a brace outside of all functions opens, by the text before it.

    "scope" (its content is read on), "function", "initialiser" (a value: skipped, the declaration
    goes on behind it).
    """
    head = strip_templates(ATTRIBUTE.sub(" ", head)).replace("::", "  ")
    if NAMESPACE.search(head) or head.startswith("TEST_SUITE") or head == "extern":
        return "scope"
    keyword = SCOPE_WORD.match(head)
    if keyword and re.match(r"\s+\w+\s*<", head[keyword.end() :]):
        return "scope"  # a specialisation, perhaps for a function's type
    before_paren = head.partition("(")[0]
    if keyword and "=" not in head and ("(" not in head or ":" in before_paren):
        return "scope"
    if CONSTRAINED_CLASS.search(head):
        return "scope"
    if "(" not in head:
        return "function" if LAMBDA_WITHOUT_PARENS.search(head) else "initialiser"
    if head.startswith("enum") and ":" in before_paren:
        return "initialiser"
    in_initialisers = MEMBER_INITIALISERS.search(head)
    if in_initialisers and re.search(r"[\w>]$", head):
        return "initialiser"  # Name() : member_{...
    return "function"


def name_of(head):
    """The name of a function, for a message."""
    match = re.search(r"([~\w:]+|operator\s*\S+?)\s*\(", strip_templates(head))
    return match[1] if match else "lambda"


def c_functions(text):
    """(name, first line, last line) of each function of a C or C++ file.

    A lambda or a local class counts as a part of the function around it. The first line is the
    one of the return type or of `template`.
    """
    code = code_only(text)
    found, head_start, parens, index = [], 0, 0, 0
    while index < len(code):
        char = code[index]
        if char in "([":
            parens += 1
        elif char in ")]":
            parens = max(0, parens - 1)
        elif char == "{" and parens > 0:
            index = closing_brace(code, index)  # a default argument
        elif char == "{":
            start = head_start
            if access := ACCESS.match(code, start, index):
                start = access.end()
            head = code[start:index]
            kind = kind_of_brace(head)
            if kind == "scope":
                head_start = index + 1
            else:
                end = closing_brace(code, index)
                if kind == "function":
                    first = start + len(head) - len(head.lstrip())
                    found.append((name_of(head), line_of(code, first), line_of(code, end)))
                    head_start = end + 1
                index = end
        elif char == "}" or (char == ";" and parens == 0):
            head_start, parens = index + 1, 0
        index += 1
    return found


def python_functions(text):
    """(name, first line, last line) of each function of a Python file."""
    nodes = ast.walk(ast.parse(text))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(node.name, node.lineno, node.end_lineno) for node in nodes if isinstance(node, kinds)]
