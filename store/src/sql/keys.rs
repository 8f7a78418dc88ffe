//! What conditions say about the key: the only ones that may be met below the merge, because every
//! version of a row has the same key.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::error::Result;
use crate::key;
use crate::schema::Schema;
use crate::spec::ColumnKind;
use crate::value::{Row, Value};

/// A range of keys that conditions ask for.
#[derive(Debug, Default)]
pub struct Bounds {
    /// First encoded key.
    pub from: Vec<u8>,
    /// First encoded key behind the range; none is no end.
    pub to: Option<Vec<u8>>,
    /// No key meets the conditions.
    is_empty: bool,
    /// Leading key columns that have one value.
    pub fixed: usize,
    /// The one partition that rows can be in.
    pub partition: Option<Vec<u8>>,
    /// For each condition how far the range meets it.
    pub met: Vec<Met>,
}

/// How far the range meets a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// All rows of the range meet it, and no other rows do.
    Whole,
    /// It chose the partition.
    Partly,
    /// Not at all.
    No,
}

/// A comparison of a key column with a value.
struct Comparison {
    condition: usize,
    column: u16,
    op: Operator,
    value: Value,
}

impl Bounds {
    /// The range that conditions, all of which must hold, leave of a table.
    pub fn of(schema: &Schema, conditions: &[&Expr]) -> Result<Bounds> {
        let comparisons = conditions.iter().enumerate();
        let comparisons: Vec<Comparison> =
            comparisons.filter_map(|(i, expr)| comparison(schema, i, expr)).collect();
        let mut bounds = Bounds { met: vec![Met::No; conditions.len()], ..Bounds::default() };
        bounds.find_partition(schema, &comparisons)?;
        let mut prefix = Vec::new();
        for column in &schema.key {
            let of_column = || comparisons.iter().filter(|c| c.column == *column);
            let Some(one) = of_column().find(|c| c.op == Operator::Eq) else {
                bounds.bound(prefix, of_column())?;
                return Ok(bounds);
            };
            key::encode(&one.value, &mut prefix)?;
            bounds.fixed += 1;
            for other in of_column() {
                bounds.met[other.condition] = Met::Whole;
                bounds.is_empty |= !other.admits(&one.value);
            }
        }
        bounds.bound(prefix, [].into_iter())?;
        Ok(bounds)
    }

    /// The range of keys with a prefix whose next column meets comparisons.
    ///
    /// DataFusion asks which conditions a scan meets several times, each time about those that it
    /// has not handed over yet. So what is met with some conditions must be met with more.
    fn bound<'a>(
        &mut self,
        prefix: Vec<u8>,
        comparisons: impl Iterator<Item = &'a Comparison>,
    ) -> Result<()> {
        self.to = key::successor(&prefix);
        self.from = prefix.clone();
        for comparison in comparisons {
            let mut at = prefix.clone();
            key::encode(&comparison.value, &mut at)?;
            // Nothing lies behind the largest key of all.
            let behind = key::successor(&at);
            match (comparison.op, behind) {
                (Operator::GtEq, _) => self.from = at.max(std::mem::take(&mut self.from)),
                (Operator::Lt, _) => self.to = lower(self.to.take(), at),
                (Operator::Gt, Some(behind)) => {
                    self.from = behind.max(std::mem::take(&mut self.from));
                }
                (Operator::Gt, None) => self.is_empty = true,
                (Operator::LtEq, Some(behind)) => self.to = lower(self.to.take(), behind),
                (Operator::LtEq, None) => {}
                _ => continue,
            }
            self.met[comparison.condition] = Met::Whole;
        }
        if self.is_empty {
            self.to = Some(self.from.clone());
        }
        Ok(())
    }

    fn find_partition(&mut self, schema: &Schema, comparisons: &[Comparison]) -> Result<()> {
        let equal: Vec<&Comparison> = comparisons.iter().filter(|c| c.op == Operator::Eq).collect();
        let mut row = Row::default();
        for comparison in equal.iter().rev() {
            row.insert(&schema.column_at(comparison.column).name, comparison.value.clone());
        }
        if schema.is_partitioned() {
            self.partition = schema.partition_of(&row)?;
        }
        if self.partition.is_some() {
            equal.iter().for_each(|comparison| self.met[comparison.condition] = Met::Partly);
        }
        Ok(())
    }
}

impl Comparison {
    /// True if a value meets it; the operator is one that compares.
    fn admits(&self, value: &Value) -> bool {
        let order = value.cmp(&self.value);
        match self.op {
            Operator::Eq => order.is_eq(),
            Operator::NotEq => order.is_ne(),
            Operator::Lt => order.is_lt(),
            Operator::LtEq => order.is_le(),
            Operator::Gt => order.is_gt(),
            Operator::GtEq => order.is_ge(),
            _ => false,
        }
    }
}

fn lower(end: Option<Vec<u8>>, other: Vec<u8>) -> Option<Vec<u8>> {
    Some(end.map_or(other.clone(), |end| end.min(other)))
}

/// A condition as a comparison of a key column with a value that keys can have.
fn comparison(schema: &Schema, condition: usize, expr: &Expr) -> Option<Comparison> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
    let (column, op, literal) = match (&**left, &**right) {
        (Expr::Column(column), Expr::Literal(literal, _)) => (column, *op, literal),
        (Expr::Literal(literal, _), Expr::Column(column)) => (column, op.swap()?, literal),
        _ => return None,
    };
    let comparing =
        [Operator::Eq, Operator::NotEq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq];
    if !comparing.contains(&op) {
        return None;
    }
    let column = schema.number(&column.name).ok().filter(|n| schema.key.contains(n))?;
    let value = value_of(literal, schema.column_at(column).kind)?;
    Some(Comparison { condition, column, op, value })
}

/// A literal as a value of a key. Zeros of floats have two forms, and comparisons of DataFusion
/// decide whether they are equal.
fn value_of(literal: &ScalarValue, kind: ColumnKind) -> Option<Value> {
    use ColumnKind::{Binary, Bool, Float32, Float64, Int32, Int64, TimestampUs, Utf8};
    Some(match (kind, literal) {
        (Int64 | Int32, ScalarValue::Int64(Some(i))) => Value::Int(*i),
        (Float64 | Float32, ScalarValue::Float64(Some(f))) if *f != 0.0 && !f.is_nan() => {
            Value::Float(*f)
        }
        (Utf8, ScalarValue::Utf8(Some(s)) | ScalarValue::Utf8View(Some(s))) => {
            Value::Text(s.clone())
        }
        (Binary, ScalarValue::Binary(Some(b))) => Value::Bytes(b.clone()),
        (Bool, ScalarValue::Boolean(Some(b))) => Value::Bool(*b),
        (TimestampUs, ScalarValue::TimestampMicrosecond(Some(us), Some(_))) => Value::Time(*us),
        _ => return None,
    })
}
