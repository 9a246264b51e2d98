//! Which currencies there are, and how many decimals each has.

/// The currencies that are money somewhere (ISO 4217, list one, without metals, funds and codes for tests), sorted. A list of our own:
/// it changes about once a year, and a crate would bring names, symbols and exchange for this one question.
pub const CURRENCIES: [&str; 155] = [
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BHD", "BIF", "BMD", "BND",
    "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CLP", "CNY", "COP", "CRC", "CUP", "CVE",
    "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD",
    "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "JMD", "JOD", "JPY",
    "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "LYD", "MAD",
    "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO",
    "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF",
    "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB",
    "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UZS", "VED", "VES", "VND",
    "VUV", "WST", "XAF", "XCD", "XCG", "XOF", "XPF", "YER", "ZAR", "ZMW", "ZWG",
];

/// Whether it is the code of a currency in use.
#[must_use]
pub fn is_in_use(code: &str) -> bool {
    CURRENCIES.binary_search(&code).is_ok()
}

/// Whether it looks like the code of a currency: three capital letters. Events may name one that is newer than this list.
#[must_use]
pub fn is_code(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// How many decimals amounts of the currency are written with (ISO 4217, list one): two, with these exceptions.
pub(crate) fn decimals(code: &str) -> u32 {
    match code {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV"
        | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_holds_codes_only() {
        assert!(CURRENCIES.is_sorted_by(|a, b| a < b), "it is searched by halves");
        assert!(CURRENCIES.iter().all(|code| is_code(code)));
    }

    #[test]
    fn what_is_not_in_use_is_told_apart() {
        for code in ["EUR", "JPY", "USD", "AED", "ZWG"] {
            assert!(is_in_use(code), "{code}");
        }
        for code in ["", "eur", "EURO", "EU", "XXX", "XTS", "XAU", "DEM", "ABC", "EUR ", "€"] {
            assert!(!is_in_use(code), "{code}");
        }
        assert!(is_code("ABC") && !is_code("abc") && !is_code("€"));
    }
}
