"""The GoogleSQL analyzer: finds names, types and syntax that BigQuery would refuse before running a script.

It is the open-source analyzer, restricted to features that BigQuery documents. It knows nothing of scripting,
of the limits of BigQuery, or of what a statement does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from zetasql.api import Analyzer, CatalogBuilder, TableBuilder
from zetasql.api.builders.function_builder import FunctionBuilder, SignatureBuilder
from zetasql.api.type_factory import TypeFactory
from zetasql.types import (
    AnalyzerOptions,
    LanguageFeature,
    LanguageOptions,
    ProductMode,
    TypeKind,
    ZetaSQLBuiltinFunctionOptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_gemini_batch.requests.response_schema import Column

# A statement with its semicolon, which may also be in a string or a comment.
_STATEMENT = re.compile(r'''(?:"""(?:.|\n)*?"""|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|--[^\n]*|[^;"'])+;''')
# What our statements may use: each is in BigQuery's reference. The analyzer has many more, such as maps and
# UUIDs, which BigQuery refuses.
_FEATURES = """
    ADDITIONAL_STRING_FUNCTIONS ALLOW_DASHES_IN_TABLE_NAME ALLOW_REGEXP_EXTRACT_OPTIONALS
    ANALYTIC_FUNCTIONS BIGNUMERIC_TYPE CIVIL_TIME CONCAT_MIXED_TYPES CREATE_TABLE_CLUSTER_BY
    CREATE_TABLE_NOT_NULL CREATE_TABLE_PARTITION_BY DATE_ARITHMETICS DATE_TIME_CONSTRUCTORS DISABLE_FLOAT32
    DML_UPDATE_WITH_JOIN EXTENDED_DATE_TIME_SIGNATURES FORMAT_IN_CAST FUNCTION_ARGUMENTS_WITH_DEFAULTS
    GROUP_BY_STRUCT HAVING_IN_AGGREGATE INTERVAL_TYPE IS_DISTINCT JSON_ARRAY_FUNCTIONS
    JSON_CONSTRUCTOR_FUNCTIONS JSON_KEYS_FUNCTION JSON_MUTATOR_FUNCTIONS JSON_TYPE
    JSON_VALUE_EXTRACTION_FUNCTIONS LIMIT_IN_AGGREGATE NAMED_ARGUMENTS NULLS_FIRST_LAST_IN_ORDER_BY
    NULL_HANDLING_MODIFIER_IN_AGGREGATE NULL_HANDLING_MODIFIER_IN_ANALYTIC NUMERIC_TYPE
    ORDER_BY_IN_AGGREGATE PARAMETERIZED_TYPES QUALIFY SAFE_FUNCTION_CALL SELECT_STAR_EXCEPT_REPLACE
    TABLESAMPLE TABLE_VALUED_FUNCTIONS WITH_ON_SUBQUERY WITH_RECURSIVE
"""
_KINDS = {"FLOAT64": "DOUBLE", "INTEGER": "INT64", "FLOAT": "DOUBLE", "BOOLEAN": "BOOL"}


def column_types(columns: Iterable[Column]) -> dict[str, Any]:
    """Return the types of columns, by name."""
    return {each.name: sql_type(each.type, each.mode, each.fields) for each in columns}


def sql_type(name: str, mode: str = "NULLABLE", fields: Sequence[Column] = ()) -> Any:
    """Return the type of a column from BigQuery's names of type and mode."""
    if name == "RECORD":
        simple = TypeFactory.create_struct_type(list(column_types(fields).items()))
    else:
        simple = TypeFactory.create_simple_type(getattr(TypeKind, f"TYPE_{_KINDS.get(name, name)}"))
    return TypeFactory.create_array_type(simple) if mode == "REPEATED" else simple


class GoogleSql:
    """Checks scripts. Creating one takes seconds and a gigabyte, and checking a statement half a second.

    Many scripts share statements. One that has been checked is known, with the tables that it names.
    """

    def __init__(self) -> None:
        self._language = LanguageOptions(
            product_mode=ProductMode.PRODUCT_EXTERNAL,
            enabled_language_features=[
                LanguageFeature[f"FEATURE_{name}"].value for name in _FEATURES.split()
            ],
        )
        self._language.supported_statement_kinds = []
        self._language.reserved_keywords = ["QUALIFY"]
        self._functions = ZetaSQLBuiltinFunctionOptions(language_options=self._language)
        self._known: dict[tuple[str, ...], Any] = {}

    def check(
        self, script: str, tables: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, Any]
    ) -> list[Any]:
        """Analyze each statement, with the temporary tables and functions of those before it.

        :param tables: column types by column name, by the table's full name
        :param parameters: types by the parameter's name
        :return: the resolved statements
        """
        catalog = CatalogBuilder("bigquery").with_builtin_functions(self._functions).build()
        names = {f"@{name}": _definition(kind) for name, kind in parameters.items()}
        for name, columns in tables.items():
            catalog.table.append(_table(name, columns))
            names[name] = _definition(catalog.table[-1])
        options = AnalyzerOptions(
            language_options=self._language,
            query_parameters=[
                AnalyzerOptions.QueryParameter(name=name, type=kind) for name, kind in parameters.items()
            ],
            # A resolved statement then says which columns it reads.
            prune_unused_columns=True,
        )
        analyzer = Analyzer(options, catalog)
        statements = []
        script = script if script.rstrip().endswith(";") else f"{script};"
        texts = _STATEMENT.findall(script)
        assert "".join(texts) == script.rstrip(), "a part of the script is no statement"
        for text in texts:
            key = (text, *sorted(f"{name} {kind}" for name, kind in names.items() if name in text))
            if key not in self._known:
                self._known[key] = analyzer.analyze_statement(text)
            statements.append(self._known[key])
            names |= _remember(self._known[key], catalog)
        return statements


def _remember(statement: Any, catalog: Any) -> dict[str, str]:
    """Add what a statement makes to the catalog; return its name and definition."""
    kind = type(statement).__name__
    if kind in ("ResolvedCreateTableAsSelectStmt", "ResolvedCreateTableStmt"):
        columns = {each.name: each.type for each in statement.column_definition_list}
        name = ".".join(statement.name_path)
        catalog.table.append(_table(name, columns))
        return {name: _definition(catalog.table[-1])}
    if kind == "ResolvedCreateFunctionStmt":
        builder = SignatureBuilder()
        for argument in statement.signature.argument:
            builder.add_argument(argument.type)
        signature = builder.set_return_type(statement.return_type).build()
        for each in (*signature.argument, signature.return_type):
            each.num_occurrences = 1
        catalog.add_function(FunctionBuilder(statement.name_path[0]).add_signature(signature).build())
        return {statement.name_path[0]: _definition(signature)}
    return {}


def _definition(part: Any) -> str:
    # The repr of a type leaves out what an array or a struct consists of.
    return str(part.to_proto())


def _table(name: str, columns: Mapping[str, Any]) -> Any:
    builder = TableBuilder(name)
    for column, kind in columns.items():
        builder.add_column(column, kind)
    return builder.build()
