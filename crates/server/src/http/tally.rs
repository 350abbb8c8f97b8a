//! Requests of the API, counted by the status of their answers.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// One counter for each status that the API answers with.
#[derive(Default)]
pub(crate) struct Tally([AtomicU64; STATUSES.len()]);

impl Tally {
    /// Counts an answer. One atomic addition.
    pub(super) fn count(&self, status: StatusCode) {
        let index = STATUSES.iter().position(|(known, _)| *known == status.as_u16());
        // One that is not in the list is counted as what it is: a mistake of ours.
        let counter = self.0.get(index.unwrap_or(STATUSES.len() - 1));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every status with its count, in the order of the numbers.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let names = STATUSES.iter().map(|(_, name)| *name);
        names.zip(self.0.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

/// As numbers and as labels. The last one stands for all others.
const STATUSES: [(u16, &str); 15] = [
    (200, "200"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (503, "503"),
    (500, "500"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_table_of_errors_has_a_counter() {
        for code in [
            throng::Code::BadJson,
            throng::Code::UnknownRoom,
            throng::Code::InvalidPayload,
            throng::Code::NotJoined,
            throng::Code::Forbidden,
            throng::Code::Unauthorized,
            throng::Code::RateLimited,
            throng::Code::TooLarge,
            throng::Code::StaleEpoch,
            throng::Code::Unavailable,
            throng::Code::UnsupportedData,
            throng::Code::Internal,
        ] {
            let tally = Tally::default();
            tally.count(StatusCode::from_u16(code.status()).unwrap());
            let name = code.status().to_string();
            assert!(tally.read().any(|(status, count)| status == name && count == 1), "{code}");
        }
    }
}
