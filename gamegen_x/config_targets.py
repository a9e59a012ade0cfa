"""What a `_target_` in YAML takes, read from its source: nothing is imported, so mistakes are found at once."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = ("gamegen_x", "data_pipeline")
ALLOWED = (
    *OURS,
    "torch.optim",
    "torch.nn",
    "torch.distributed",
    "lightning",
    "transformers",
    "deepspeed",
    "torchmetrics",
)
_LAZY = ("transformers",)  # its names appear only when it runs

_SIMPLE: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "Path": (str,),
    "list": (list,),
    "List": (list,),
    "tuple": (list,),
    "Tuple": (list,),
    "set": (list,),
    "Sequence": (list,),
    "Iterable": (list, dict),
    "Collection": (list, dict),
    "dict": (dict,),
    "Dict": (dict,),
    "Mapping": (dict,),
}
_SAID = {
    **dict.fromkeys(("list", "List", "Sequence", "tuple", "Tuple", "set", "Iterable", "Collection"), "list"),
    **dict.fromkeys(("dict", "Dict", "Mapping"), "mapping"),
    "Path": "path",
    "int": "integer",
    "float": "number",
    "bool": "true or false",
    "str": "string",
}


class UnknownTarget(ValueError):  # noqa: N818
    """A `_target_` that is not there, or that YAML may not name."""


@dataclass(frozen=True)
class Parameter:
    name: str
    annotation: ast.expr | None
    module: Module  # where the annotation was written


@dataclass(frozen=True)
class Signature:
    """What a class or function takes. `takes_any`: further keywords are fine, or cannot be known."""

    name: str
    parameters: Mapping[str, Parameter]
    takes_any: bool
    is_ours: bool


@dataclass(frozen=True)
class Module:
    """One source file, parsed: its top-level names."""

    name: str
    path: Path
    names: Mapping[str, ast.stmt] = field(hash=False, compare=False)

    @property
    def is_ours(self) -> bool:
        return self.name.split(".")[0] in OURS


@functools.cache
def find_signature(target: str) -> Signature:
    """Raises UnknownTarget."""
    if not any(target == name or target.startswith(f"{name}.") for name in ALLOWED):
        raise UnknownTarget(f"YAML may build things of {', '.join(ALLOWED)} only, got {target!r}")
    module, rest = _find_module(target)
    unknown = Signature(target, {}, takes_any=True, is_ours=False)
    if not rest or len(rest) > 2:
        raise UnknownTarget(f"{target!r} is no class or function; name the file and the class in it")
    found = _find_definition(module, rest[0])
    if found is None:
        if module.name.split(".")[0] in _LAZY and rest[0] not in module.names:
            return unknown
        near = difflib.get_close_matches(rest[0], _definitions(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(_definitions(module)) or 'none'}"
        raise UnknownTarget(f"{module.name} has no class or function {rest[0]!r}{hint}")
    owner, node = found
    if len(rest) == 2:
        return _method_signature(target, owner, node, rest[1])
    return _signature(rest[0], owner, node)


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a value, and where inside it (empty: the value itself)."""

    place: str
    said: str

    def inside(self, place: str) -> Mistake:
        return Mistake(f"{place}.{self.place}" if self.place else place, self.said)


def find_mistake(value: Any, parameter: Parameter, signature: Signature) -> Mistake | None:
    """What is wrong with a value for a parameter, as far as its annotation tells."""
    if parameter.annotation is None or (isinstance(value, dict) and "_target_" in value):
        return None
    if signature.is_ours:
        mistake = _mistake_inside(value, parameter.annotation, parameter.module)
        if mistake:
            return mistake
    if _matches(value, parameter.annotation, parameter.module, signature.is_ours):
        return None
    expected = " or ".join(dict.fromkeys(_said(parameter.annotation, parameter.module)))
    hint = _whole_number(value)
    if isinstance(value, str) and _is_class(parameter):
        hint = "; choose a file of its config group, or write a node with _target_"
    return Mistake("", f"expected {expected}, got {_show(value)}{hint}")


def other_kind(value: Any, kind: type) -> str | None:
    """What is wrong with a plain value where another one of a `kind` stands: int, float, bool, str or list."""
    if _is_one_of(value, kind.__name__):
        return None
    return f"expected {_SAID[kind.__name__]}, got {_show(value)}{_whole_number(value)}"


def _whole_number(value: Any) -> str:
    return f"; write {int(value)}" if isinstance(value, float) and value.is_integer() else ""


def unknown_argument(signature: Signature, name: str) -> str:
    """That something takes no such argument, which one was perhaps meant, and which there are."""
    known = list(signature.parameters)
    near = difflib.get_close_matches(name, known, n=1)
    meant = f", did you mean {near[0]!r}?" if near else ";"
    return f"{signature.name} takes no {name!r}{meant} it takes {', '.join(known) or 'nothing'}"


def _matches(value: Any, annotation: ast.expr, module: Module, is_strict: bool) -> bool:
    """Whether a YAML value can be meant by an annotation. What the annotation does not tell is fine."""
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str() as text):
            return _matches(value, ast.parse(text, mode="eval").body, module, is_strict)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _matches(value, left, module, is_strict) or _matches(value, right, module, is_strict)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return value is None or _matches(value, inner, module, is_strict)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=choices)):
            return any(_matches(value, choice, module, is_strict) for choice in choices)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            choices = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return any(isinstance(choice, ast.Constant) and choice.value == value for choice in choices)
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _SIMPLE:
            if not _is_one_of(value, name):
                return False
            return all(_matches(item, wanted, module, is_strict) for _, item, wanted in _items(value, inner))
        case ast.Name(id=name) if name in _SIMPLE:
            return _is_one_of(value, name)
        case ast.Name(id="Tensor") | ast.Attribute(attr="Tensor"):
            return False  # YAML has no tensors
        case ast.Name(id=name) if is_strict and _is_plain_class(name, module):
            return False  # a value that is no node cannot be an object
        case _:
            return True


def _is_one_of(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "bool"
    return isinstance(value, _SIMPLE[name])


def _items(value: list[Any] | dict[Any, Any], inner: ast.expr) -> Iterator[tuple[str, Any, ast.expr]]:
    """Place, item and annotation for the items of a list or a mapping; nodes are judged for themselves."""
    wanted = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    is_fixed = isinstance(value, list) and len(wanted) == len(value) and not _has_dots(wanted)
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for number, (place, item) in enumerate(pairs):
        if not (isinstance(item, dict) and "_target_" in item):
            yield str(place), item, wanted[number] if is_fixed else wanted[-1 if isinstance(value, dict) else 0]


def _has_dots(wanted: Sequence[ast.expr]) -> bool:
    return any(isinstance(one, ast.Constant) and one.value is ... for one in wanted)


def _mistake_inside(value: Any, annotation: ast.expr, module: Module) -> Mistake | None:
    """What is wrong in a mapping that stands for one of our dataclasses, or in such mappings further inside."""
    match annotation:
        case ast.Constant(value=str() as text):
            return _mistake_inside(value, ast.parse(text, mode="eval").body, module)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _mistake_inside(value, left, module) or _mistake_inside(value, right, module)
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _SIMPLE and isinstance(value, list | dict):
            for place, item, wanted in _items(value, inner):
                mistake = _mistake_inside(item, wanted, module)
                if mistake:
                    return mistake.inside(place)
        case ast.Name(id=name) if isinstance(value, dict):
            found = _find_definition(module, name)
            if found is not None and isinstance(found[1], ast.ClassDef) and _is_dataclass(found[1]):
                return _wrong_field(value, _signature(name, *found))
    return None


def _wrong_field(value: Mapping[str, Any], signature: Signature) -> Mistake | None:
    for key, item in value.items():
        parameter = signature.parameters.get(key)
        if parameter is None:
            return Mistake(key, unknown_argument(signature, key))
        mistake = find_mistake(item, parameter, signature)
        if mistake:
            return mistake.inside(key)
    return None


def _said(annotation: ast.expr, module: Module) -> Iterator[str]:
    """An annotation in words."""
    match annotation:
        case ast.Constant(value=None):
            yield "null"
        case ast.Constant(value=str() as text):
            yield from _said(ast.parse(text, mode="eval").body, module)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            yield from _said(left, module)
            yield from _said(right, module)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            yield from _said(inner, module)
            yield "null"
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=choices)):
            for choice in choices:
                yield from _said(choice, module)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            choices = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            yield "one of " + ", ".join(repr(choice.value) for choice in choices if isinstance(choice, ast.Constant))
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _SAID:
            wanted = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            items = wanted[-1] if _SAID[name] == "mapping" else wanted[0]
            yield f"{_SAID[name]} of ({' or '.join(_said(items, module))})"
        case ast.Name(id=name):
            yield _SAID.get(name, name)
        case _:
            yield ast.unparse(annotation)


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    kind = {str: "string", int: "integer", float: "number", list: "list", dict: "mapping"}[type(value)]
    return f"{kind} {value!r}"


def _is_class(parameter: Parameter) -> bool:
    nodes = ast.walk(parameter.annotation or ast.Constant(None))
    return any(isinstance(node, ast.Name) and _is_plain_class(node.id, parameter.module) for node in nodes)


def _is_plain_class(name: str, module: Module) -> bool:
    """Whether a name means a class of ours whose objects YAML cannot write down."""
    found = _find_definition(module, name)
    if found is None or not isinstance(found[1], ast.ClassDef) or not found[0].is_ours:
        return False
    bases = {ast.unparse(base).split(".")[-1] for base in found[1].bases}
    return not bases & {"str", "int", "float", "Enum", "StrEnum", "IntEnum", "TypedDict", "Protocol", "dict", "list"}


# Reading source files


def _find_module(target: str) -> tuple[Module, list[str]]:
    """The file that a dotted name begins with, and what is left of the name."""
    parts = target.split(".")
    spec = importlib.util.find_spec(parts[0])
    if spec is None or spec.origin is None:
        raise UnknownTarget(f"{target!r} needs the package {parts[0]!r}, which is not installed")
    path, name, rest = Path(spec.origin), parts[0], parts[1:]
    while rest and path.name == "__init__.py":
        folder, file = path.parent / rest[0] / "__init__.py", path.parent / f"{rest[0]}.py"
        found = folder if folder.is_file() else file
        if not found.is_file():
            break
        path, name, rest = found, f"{name}.{rest[0]}", rest[1:]
    module = _parse(name, path)
    if len(rest) > 1 and module.is_ours and path.name == "__init__.py":
        beside = [
            file.stem for file in path.parent.iterdir() if file.suffix == ".py" or (file / "__init__.py").is_file()
        ]
        near = difflib.get_close_matches(rest[0], beside, n=1)
        hint = f"; did you mean {'.'.join([name, near[0], *rest[1:]])!r}?" if near else ""
        raise UnknownTarget(f"there is no module {name}.{rest[0]}{hint}")
    return module, rest


@functools.cache
def _parse(name: str, path: Path) -> Module:
    names: dict[str, ast.stmt] = {}
    _collect(ast.parse(path.read_text(encoding="utf-8")).body, names)
    return Module(name, path, names)


def _collect(body: Sequence[ast.stmt], names: dict[str, ast.stmt]) -> None:
    for statement in body:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names[name] = statement
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                for alias in aliases:
                    names[(alias.asname or alias.name).split(".")[0]] = statement
            case ast.Assign(targets=[ast.Name(id=name)]):
                names.setdefault(name, statement)
            case ast.If(body=inner, orelse=other):
                _collect(inner, names)
                _collect(other, names)
            case ast.Try(body=inner):
                _collect(inner, names)


def _definitions(module: Module) -> list[str]:
    """The public names that a `_target_` may end with: classes, and in a package those that it passes on."""
    is_package = module.path.name == "__init__.py"
    kinds = (ast.ClassDef, ast.ImportFrom) if is_package else (ast.ClassDef,)
    return [name for name, node in module.names.items() if isinstance(node, kinds) and not name.startswith("_")]


Definition = tuple[Module, ast.ClassDef | ast.FunctionDef]


def _find_definition(module: Module, name: str, depth: int = 0) -> Definition | None:
    """Follows a name to its class or function, within one top-level package; None if it leads elsewhere."""
    node = module.names.get(name)
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return module, node
        case ast.Assign(value=ast.Name(id=other)) if depth < 20:
            return _find_definition(module, other, depth + 1)
        case ast.ImportFrom() if depth < 20:
            original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            source = _imported_from(module, node)
            if source.split(".")[0] not in (module.name.split(".")[0], *OURS):
                return None
            try:
                found, rest = _find_module(f"{source}.{original}")
            except UnknownTarget:
                return None
            return _find_definition(found, rest[0], depth + 1) if len(rest) == 1 else None
        case _:
            return None


def _imported_from(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package = package[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def _signature(name: str, module: Module, node: ast.ClassDef | ast.FunctionDef) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return _function_signature(name, module, node, skip=0)
    init = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
    bases = [
        _base(module, base)
        for base in node.bases
        if ast.unparse(base).split("[")[0] not in ("object", "ABC", "Protocol")
    ]
    inherited = [_signature(one[1].name, *one) if one else Signature(name, {}, True, False) for one in bases]
    of_bases = {key: value for signature in reversed(inherited) for key, value in signature.parameters.items()}
    is_open = any(signature.takes_any for signature in inherited)
    if init is not None:
        own = _function_signature(name, module, init, skip=1)
        if not own.takes_any or not inherited:
            return own
        return Signature(name, {**of_bases, **own.parameters}, is_open, module.is_ours)
    if _is_dataclass(node):
        fields = {
            item.target.id: Parameter(item.target.id, item.annotation, module)
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and _is_given(item)
        }
        return Signature(name, {**of_bases, **fields}, is_open, module.is_ours)
    return Signature(name, of_bases, is_open, module.is_ours)


def _base(module: Module, base: ast.expr) -> tuple[Module, ast.ClassDef] | None:
    """The class that another builds on, where it is one of the same package and can be found."""
    if isinstance(base, ast.Subscript):
        base = base.value
    found = _find_definition(module, base.id) if isinstance(base, ast.Name) else None
    return (found[0], found[1]) if found and isinstance(found[1], ast.ClassDef) else None


def _method_signature(target: str, module: Module, node: ast.ClassDef | ast.FunctionDef, name: str) -> Signature:
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == name]
    if not isinstance(node, ast.ClassDef) or not methods:
        raise UnknownTarget(f"{node.name} of {module.name} has no method {name!r}, named by {target!r}")
    return _function_signature(f"{node.name}.{name}", module, methods[0], skip=1)


def _function_signature(name: str, module: Module, node: ast.FunctionDef, skip: int) -> Signature:
    arguments = [*node.args.posonlyargs, *node.args.args][skip:] + node.args.kwonlyargs
    parameters = {argument.arg: Parameter(argument.arg, argument.annotation, module) for argument in arguments}
    return Signature(name, parameters, takes_any=node.args.kwarg is not None, is_ours=module.is_ours)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).split("(")[0].split(".")[-1] == "dataclass" for decorator in node.decorator_list)


def _is_given(item: ast.AnnAssign) -> bool:
    """Whether a dataclass field is an argument of the constructor."""
    is_class_variable = ast.unparse(item.annotation).startswith("ClassVar")
    return not is_class_variable and not (item.value is not None and "init=False" in ast.unparse(item.value))
