//! What does not fit together, although each value by itself is right.

use super::ConfigError;
use super::checked::Config;
use super::redis::RedisMode;
use super::trust::{Algorithm, ClientAuth};
use super::words::Storage;

/// Finds the first contradiction, in one sentence that says what to do; and the first file that cannot be read.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    jwt(config)?;
    webhook(config)?;
    tls(config)?;
    redis(config)?;
    proxies(config)
}

fn jwt(config: &Config) -> Result<(), ConfigError> {
    let jwt = &config.jwt;
    let has_keys =
        !jwt.key_file.is_empty() || !jwt.jwks_url.is_empty() || !jwt.jwks_file.is_empty();
    if jwt.algorithms.is_empty() && (has_keys || !jwt.secret_file.is_empty()) {
        return wrong(
            "jwt has keys, but no algorithms: set jwt.algorithms to those your tokens are signed with, \
             such as [\"ES256\"]",
        );
    }
    let has_secret = jwt.algorithms.as_slice().contains(&Algorithm::Hs256);
    if has_secret && jwt.secret_file.is_empty() {
        return wrong("jwt.algorithms has HS256, which needs jwt.secret_file");
    }
    if jwt.algorithms.has_asymmetric() && !has_keys {
        return wrong(
            "jwt.algorithms has RS256, ES256 or EdDSA, which need jwt.key_file, jwt.jwks_url or \
             jwt.jwks_file",
        );
    }
    if jwt.user_claim.0.is_empty() {
        return wrong("jwt.user_claim must name a claim, such as \"sub\"");
    }
    jwt.secret_file.check_secret("jwt.secret_file", LEAST_SECRET)?;
    jwt.key_file.read("jwt.key_file")?;
    jwt.jwks_file.read("jwt.jwks_file")?;
    Ok(())
}

fn webhook(config: &Config) -> Result<(), ConfigError> {
    let webhook = &config.webhook;
    if !webhook.url.is_empty() && webhook.secret_file.is_empty() {
        return wrong("webhook.url needs webhook.secret_file, by which the questions are signed");
    }
    if webhook.login && webhook.url.is_empty() {
        return wrong("webhook.login needs webhook.url");
    }
    if webhook.login && !config.login.enabled {
        return wrong("webhook.login needs login.enabled = true, or nobody can log in");
    }
    webhook.secret_file.check_secret("webhook.secret_file", LEAST_SECRET)?;
    Ok(())
}

fn tls(config: &Config) -> Result<(), ConfigError> {
    let tls = &config.tls;
    if tls.cert.len() != tls.key.len() {
        return Err(ConfigError::new(format!(
            "tls.cert and tls.key must be as many: there are {} and {}",
            tls.cert.len(),
            tls.key.len()
        )));
    }
    let has_certificate = !tls.cert.is_empty() || !tls.acme_domains.is_empty();
    if let Some(listener) = config.listeners.iter().find(|listener| listener.tls)
        && !has_certificate
    {
        return Err(ConfigError::new(format!(
            "the listener {} has tls = true, which needs tls.cert and tls.key, or tls.acme_domains",
            listener.address
        )));
    }
    if config.listeners.iter().any(|listener| listener.redirect)
        && !config.listeners.iter().any(|listener| listener.tls)
    {
        return wrong("a listener redirects to https, but none has tls = true");
    }
    if tls.client_auth == ClientAuth::Required && !tls.acme_domains.is_empty() {
        return wrong(
            "tls.client_auth = \"required\" keeps the authority of tls.acme_domains out: use \"optional\", or \
             certificates from files",
        );
    }
    if tls.client_auth != ClientAuth::Off && tls.client_ca.is_empty() {
        return wrong("tls.client_auth needs tls.client_ca");
    }
    if !tls.acme_domains.is_empty() {
        if config.data == Storage::Memory && tls.acme_cache.is_empty() {
            return wrong(
                "tls.acme_domains needs a directory to keep the certificates in: set tls.acme_cache or \
                 data",
            );
        }
        if tls.acme_directory.is_empty() {
            return wrong("tls.acme_domains needs tls.acme_directory");
        }
    }
    for cert in tls.cert.iter() {
        cert.read("tls.cert")?;
    }
    for key in tls.key.iter() {
        key.read("tls.key")?;
    }
    tls.client_ca.read("tls.client_ca")?;
    tls.acme_ca.read("tls.acme_ca")?;
    Ok(())
}

fn redis(config: &Config) -> Result<(), ConfigError> {
    let redis = &config.redis;
    if !redis.urls.is_empty() && config.data != Storage::Memory {
        return wrong(
            "redis.urls and data are two places for the same: with Redis, leave data = \"memory\", also on the \
             command line",
        );
    }
    if redis.trust_restarts && (redis.mode != RedisMode::Single || redis.min_replicas > 0) {
        return wrong(
            "redis.trust_restarts is for a Redis without replicas: one that takes over may lack the last messages",
        );
    }
    if redis.cert.is_empty() != redis.key.is_empty() {
        return wrong("redis.cert and redis.key need each other");
    }
    if !redis.username.0.is_empty() && redis.password_file.is_empty() {
        return wrong("redis.username needs redis.password_file");
    }
    redis.password_file.check_secret("redis.password_file", 1)?;
    redis.sentinel_password_file.check_secret("redis.sentinel_password_file", 1)?;
    for (key, file) in
        [("redis.ca", &redis.ca), ("redis.cert", &redis.cert), ("redis.key", &redis.key)]
    {
        file.read(key)?;
    }
    Ok(())
}

fn proxies(config: &Config) -> Result<(), ConfigError> {
    let listener = config.listeners.iter().find(|listener| listener.proxy_protocol);
    match listener {
        Some(listener) if config.limits.trusted_proxies.is_empty() => {
            Err(ConfigError::new(format!(
                "the listener {} has proxy_protocol = true, which needs limits.trusted_proxies: from \
                 where PROXY headers are believed",
                listener.address
            )))
        }
        _ => Ok(()),
    }
}

fn wrong(sentence: &str) -> Result<(), ConfigError> {
    Err(ConfigError::new(sentence.to_owned()))
}

/// RFC 7518 §3.2: a key of HS256 has at least as many bits as its hash.
const LEAST_SECRET: usize = 32;
