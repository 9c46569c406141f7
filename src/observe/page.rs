//! The order of the metrics page: families by name, series by label, buckets as they rise.
//!
//! The exporter prints its hash maps as they come; a page that keeps its order can be read and compared.
//! A series whose value was never measured (`NaN`) is left out, and a family without series too.

use std::collections::BTreeMap;

/// Puts `text`, in the text format with families parted by blank lines, in order.
pub(super) fn ordered(text: &str) -> String {
    let families: BTreeMap<&str, &str> =
        text.split("\n\n").filter_map(|family| Some((name_of(family)?, family))).collect();
    let mut out = String::with_capacity(text.len());
    for family in families.values() {
        put_family(family, &mut out);
    }
    out
}

fn name_of(family: &str) -> Option<&str> {
    family.trim_start().strip_prefix("# HELP ")?.split(' ').next()
}

fn put_family(family: &str, out: &mut String) {
    let (comments, samples): (Vec<&str>, Vec<&str>) =
        family.lines().filter(|line| is_told(line)).partition(|line| line.starts_with('#'));
    let mut groups: Vec<Vec<&str>> = if comments.iter().any(|line| line.ends_with(" histogram")) {
        samples.split_inclusive(|line| is_last_of_histogram(line)).map(<[_]>::to_vec).collect()
    } else {
        samples.into_iter().map(|line| vec![line]).collect()
    };
    if groups.is_empty() {
        return;
    }
    groups.sort_unstable();
    for line in comments.into_iter().chain(groups.into_iter().flatten()) {
        out.push_str(line);
        out.push('\n');
    }
}

fn is_told(line: &str) -> bool {
    !line.is_empty() && !line.ends_with(" NaN")
}

/// A histogram's lines are its buckets, its sum and then its count.
fn is_last_of_histogram(line: &str) -> bool {
    line.split(['{', ' ']).next().is_some_and(|name| name.ends_with("_count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_series_are_sorted_and_buckets_keep_their_order() {
        let text = "# HELP b x\n# TYPE b gauge\nb{l=\"2\"} 0\nb{l=\"1\"} 0\n\n\
            # HELP a x y\n# TYPE a histogram\n\
            a_bucket{l=\"q\",le=\"5\"} 0\na_bucket{l=\"q\",le=\"10\"} 0\na_sum{l=\"q\"} 0\na_count{l=\"q\"} 0\n\
            a_bucket{l=\"p\",le=\"5\"} 0\na_bucket{l=\"p\",le=\"10\"} 0\na_sum{l=\"p\"} 0\na_count{l=\"p\"} 0\n\n";
        let expected = "# HELP a x y\n# TYPE a histogram\n\
            a_bucket{l=\"p\",le=\"5\"} 0\na_bucket{l=\"p\",le=\"10\"} 0\na_sum{l=\"p\"} 0\na_count{l=\"p\"} 0\n\
            a_bucket{l=\"q\",le=\"5\"} 0\na_bucket{l=\"q\",le=\"10\"} 0\na_sum{l=\"q\"} 0\na_count{l=\"q\"} 0\n\
            # HELP b x\n# TYPE b gauge\nb{l=\"1\"} 0\nb{l=\"2\"} 0\n";
        assert_eq!(ordered(text), expected);
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let text = "# HELP a x\n# TYPE a gauge\na{l=\"1\"} NaN\na{l=\"2\"} 0\n\n\
            # HELP b x\n# TYPE b gauge\nb NaN\n\n";
        assert_eq!(ordered(text), "# HELP a x\n# TYPE a gauge\na{l=\"2\"} 0\n");
    }
}
