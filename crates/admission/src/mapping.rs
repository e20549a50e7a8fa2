//! The JMESPath half of a payload type: one expression that makes the target document of the source document.
//!
//! Numbers pass through as they are. Functions that calculate with binary floating point (`sum`, `avg`) or read numbers
//! from text (`to_number`) are not there; `to_minor(amount, currency)` is, and is exact.

use std::sync::{Arc, LazyLock};

use billing::{Currency, CurrencyError, Decimal, DecimalError, minor_units};
use jmespath::ast::Ast;
use jmespath::functions::{ArgumentType, CustomFunction, Signature};
use jmespath::{Context, ErrorReason, Expression, JmespathError, Rcvar, Runtime, Variable};
use serde_json::{Map, Number, Value};

use crate::tree::number_text;

/// What is left out of JMESPath, because it would damage numbers silently.
const LEFT_OUT: [&str; 3] = ["avg", "sum", "to_number"];
/// Integers that every JSON reader keeps apart, 2^53-1.
const SAFE_INTEGER_MAX: u64 = 9_007_199_254_740_991;

/// The functions, fixed for ever: an expression borrows them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut runtime = Runtime::new();
    runtime.register_builtin_functions();
    for name in LEFT_OUT {
        drop(runtime.deregister_function(name));
    }
    let amount = ArgumentType::Union(vec![ArgumentType::Number, ArgumentType::String]);
    let signature = Signature::new(vec![amount, ArgumentType::String], None);
    runtime.register_function("to_minor", Box::new(CustomFunction::new(signature, Box::new(to_minor))));
    runtime
});

/// A compiled mapping.
#[derive(Clone)]
pub(crate) struct Mapping(Expression<'static>);

/// Why an expression is no mapping, or a document could not be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Stable.
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

impl Mapping {
    pub(crate) fn compile(text: &str) -> Result<Self, Fault> {
        let expression = RUNTIME.compile(text.trim()).map_err(|error| of_error(&error))?;
        functions_exist(expression.as_ast())?;
        Ok(Self(expression))
    }

    pub(crate) fn apply(&self, source: &Value) -> Result<Value, Fault> {
        let found = self.0.search(variable(source)).map_err(|error| of_error(&error))?;
        value(&found)
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mapping").field(&self.0.as_str()).finish()
    }
}

fn variable(value: &Value) -> Rcvar {
    Arc::new(match value {
        Value::Null => Variable::Null,
        Value::Bool(truth) => Variable::Bool(*truth),
        Value::Number(number) => Variable::Number(number.clone()),
        Value::String(text) => Variable::String(text.clone()),
        Value::Array(elements) => Variable::Array(elements.iter().map(variable).collect()),
        Value::Object(members) => {
            Variable::Object(members.iter().map(|(name, member)| (name.clone(), variable(member))).collect())
        }
    })
}

fn value(variable: &Variable) -> Result<Value, Fault> {
    Ok(match variable {
        Variable::Null => Value::Null,
        Variable::Bool(truth) => Value::Bool(*truth),
        Variable::Number(number) => Value::Number(number.clone()),
        Variable::String(text) => Value::String(text.clone()),
        Variable::Array(elements) => {
            Value::Array(elements.iter().map(|element| value(element)).collect::<Result<_, _>>()?)
        }
        Variable::Object(members) => {
            let read = members.iter().map(|(name, member)| Ok((name.clone(), value(member)?)));
            Value::Object(read.collect::<Result<Map<_, _>, Fault>>()?)
        }
        Variable::Expref(_) => {
            return Err(Fault { code: "not_a_value", detail: "the mapping gives an expression".to_owned() });
        }
    })
}

/// Our own faults come through JMESPath as `<code>: <detail>`.
fn of_error(error: &JmespathError) -> Fault {
    let text = match &error.reason {
        ErrorReason::Parse(text) => text.clone(),
        ErrorReason::Runtime(reason) => reason.to_string(),
    };
    match text
        .split_once(": ")
        .and_then(|(code, detail)| Some((AMOUNT_CODES.iter().find(|known| **known == code)?, detail)))
    {
        Some((code, detail)) => Fault { code, detail: detail.to_owned() },
        None => {
            let detail = format!("{text} (line {}, column {} of the mapping)", error.line, error.column);
            Fault { code: "jmespath", detail }
        }
    }
}

const AMOUNT_CODES: [&str; 5] =
    ["invalid_amount", "too_many_decimals", "amount_too_large", "unknown_currency", "no_minor_unit"];

/// An amount (a number, or its text) in the minor units of its currency.
fn to_minor(arguments: &[Rcvar], context: &mut Context<'_>) -> Result<Rcvar, JmespathError> {
    let fault = |code: &str, detail: String| {
        JmespathError::new(context.expression, context.offset, ErrorReason::Parse(format!("{code}: {detail}")))
    };
    let (amount, code) = match arguments {
        [amount, code] => (amount, code.as_string().map_or("", String::as_str)),
        _ => return Err(fault("invalid_amount", "to_minor takes an amount and a currency".to_owned())),
    };
    let decimal = match &**amount {
        Variable::Number(number) => number_text(number),
        Variable::String(text) => text.clone(),
        _ => return Err(fault("invalid_amount", "an amount is a number or its text".to_owned())),
    };
    let currency = Currency::of(code).map_err(|error| match error {
        CurrencyError::Unknown => fault("unknown_currency", format!("{:?} is no currency of ISO 4217", shown(code))),
        CurrencyError::NoMinorUnit => fault("no_minor_unit", format!("{code} has no minor unit")),
    })?;
    let minor = Decimal::parse(&decimal).and_then(|amount| minor_units(currency, amount)).map_err(|error| {
        let code = match error {
            DecimalError::Malformed | DecimalError::TooLong => "invalid_amount",
            DecimalError::TooManyDecimals => "too_many_decimals",
            DecimalError::Money(_) => "amount_too_large",
        };
        fault(code, format!("{error}: {:?} {currency}", shown(&decimal)))
    })?;
    if minor.units().unsigned_abs() > SAFE_INTEGER_MAX {
        return Err(fault("amount_too_large", "the minor units do not fit a JSON integer (2^53-1)".to_owned()));
    }
    Ok(Arc::new(Variable::Number(Number::from(minor.units()))))
}

fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    text.chars().take(CHARS_MAX).collect()
}

/// JMESPath looks a function up when it is called; a type that calls one that is not there must not be accepted.
fn functions_exist(ast: &Ast) -> Result<(), Fault> {
    if let Ast::Function { name, .. } = ast
        && RUNTIME.get_function(name).is_none()
    {
        let detail = match LEFT_OUT.contains(&name.as_str()) {
            true => format!("{name}() is left out here: it calculates in binary floating point"),
            false => format!("there is no function {name}()"),
        };
        return Err(Fault { code: "unknown_function", detail });
    }
    children(ast).into_iter().try_for_each(functions_exist)
}

fn children(ast: &Ast) -> Vec<&Ast> {
    match ast {
        Ast::Comparison { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Projection { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => vec![lhs, rhs],
        Ast::Condition { predicate, then, .. } => vec![predicate, then],
        Ast::Expref { ast, .. } => vec![ast],
        Ast::Flatten { node, .. } | Ast::Not { node, .. } | Ast::ObjectValues { node, .. } => vec![node],
        Ast::Function { args, .. } => args.iter().collect(),
        Ast::MultiList { elements, .. } => elements.iter().collect(),
        Ast::MultiHash { elements, .. } => elements.iter().map(|pair| &pair.value).collect(),
        Ast::Field { .. } | Ast::Identity { .. } | Ast::Index { .. } | Ast::Literal { .. } | Ast::Slice { .. } => {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(text: &str, source: Value) -> Result<Value, Fault> {
        Mapping::compile(text)?.apply(&source)
    }

    #[test]
    fn an_expression_makes_a_document() {
        let mapped = map(
            "{Id: a.id, All: [a.id, b[0]], Sum: to_minor(a.n, 'EUR')}",
            json!({"a": {"id": "x", "n": 12.5}, "b": [1e30]}),
        );
        assert_eq!(mapped.unwrap(), json!({"Id": "x", "All": ["x", 1e30], "Sum": 1250}));
    }

    #[test]
    fn amounts_are_exact_whatever_binary_floating_point_makes_of_them() {
        for (amount, currency, minor) in [
            (json!(0.29), "USD", 29),
            (json!(1.005), "KWD", 1005),
            (json!(4.35), "EUR", 435),
            (json!(1e3), "JPY", 1000),
            (json!("4.35"), "EUR", 435),
            (json!(-2.5), "USD", -250),
        ] {
            assert_eq!(
                map("to_minor(a, c)", json!({"a": amount, "c": currency})),
                Ok(json!(minor)),
                "{amount} {currency}"
            );
        }
    }

    #[test]
    fn an_amount_that_its_currency_cannot_carry_is_refused_with_its_reason() {
        for (amount, currency, code) in [
            (json!(12.345), "USD", "too_many_decimals"),
            (json!(0.5), "JPY", "too_many_decimals"),
            (json!(1), "usd", "unknown_currency"),
            (json!(1), "XAU", "no_minor_unit"),
            (json!(1), "ABC", "unknown_currency"),
            (json!("1,000"), "USD", "invalid_amount"),
            (json!(1e15), "USD", "amount_too_large"),
            (json!(1e17), "USD", "amount_too_large"),
            (json!(1e300), "USD", "invalid_amount"),
        ] {
            let fault = map("to_minor(a, c)", json!({"a": amount, "c": currency})).unwrap_err();
            assert_eq!(fault.code, code, "{amount} {currency}: {}", fault.detail);
        }
        assert_eq!(map("to_minor(a, c)", json!({"c": "USD"})).unwrap_err().code, "jmespath");
    }

    #[test]
    fn functions_that_damage_numbers_or_do_not_exist_are_found_when_a_type_is_read() {
        for text in
            ["sum(a)", "{x: [avg(a)]}", "a[?to_number(b) > `1`]", "map(&nope(@), a)", "a || nope(b)", "!nope(a)"]
        {
            let fault = Mapping::compile(text).unwrap_err();
            assert_eq!(fault.code, "unknown_function", "{text}: {}", fault.detail);
        }
        let fault = Mapping::compile("{a: ").unwrap_err();
        assert_eq!(fault.code, "jmespath");
    }
}
