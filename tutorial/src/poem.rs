//! Lines whose words are to be counted.

/// Some lines about bees.
pub fn poem() -> Vec<String> {
    POEM.lines().map(str::to_string).collect()
}

const POEM: &str = "\
the first bee left the hive at dawn
and found the meadow wet with rain
the second bee had hardly gone
before the first was back again

she danced the way across the comb
a little left of where the sun
would stand at noon above their home
and soon the work had well begun

a thousand bees flew out by nine
and none of them was told the plan
each one had read a single line
and none knew how the work began

the queen knows nothing of the field
the field knows nothing of the hive
and yet by dusk the combs are sealed
and all the bees but three alive

a bee may fail a storm may come
a flower that was there is gone
the work is shared the many hum
and when one falls the rest go on";

#[test]
fn some_words_come_more_often_than_all_others() {
    let mut counts = std::collections::BTreeMap::new();
    for word in POEM.split_whitespace() {
        *counts.entry(word).or_insert(0) += 1;
    }
    let mut largest: Vec<i32> = counts.into_values().collect();
    largest.sort_unstable_by(|a, b| b.cmp(a));
    assert!(
        largest[0] > largest[1] && largest[1] > largest[2] && largest[2] > largest[3],
        "{largest:?}"
    );
}
