mod golden;
mod moving;
mod properties;
mod refusals;
mod strategies;

fn octets(hexadecimal: &str) -> Vec<u8> {
    hex::decode(hexadecimal.split_whitespace().collect::<String>()).expect("the test writes hexadecimal")
}
