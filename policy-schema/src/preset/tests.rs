use super::*;

const TENANT: &str = "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10";
const ENVIRONMENT: &str = "3fe7c5a1-2f5b-4d13-8f1e-0f7c0c7f3a10";

fn issuer(preset: Result<Preset, PresetError>) -> String {
    preset.map_or_else(|error| format!("unusable: {error}"), |preset| preset.issuer)
}

#[test]
fn tenant_is_found_in_each_form_that_administrators_paste() {
    let right = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    for pasted in [
        TENANT.to_owned(),
        format!(" {TENANT} \n"),
        TENANT.to_uppercase(),
        right.clone(),
        format!("{right}/"),
        format!("{right}/.well-known/openid-configuration"),
        format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/authorize"),
        format!("https://sts.windows.net/{TENANT}/"),
        format!("https://portal.azure.com/#@{TENANT}/resource/x"),
        format!("https://entra.microsoft.com/?tenantId={TENANT}#view/x"),
        format!("https://portal.azure.com/#view/Blade/~/Overview/tenantId/{TENANT}/appId/x"),
    ] {
        assert_eq!(issuer(entra(&pasted)), right, "{pasted}");
    }
    assert_eq!(
        issuer(entra("https://portal.azure.com/#@contoso.onmicrosoft.com/resource")),
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/v2.0"
    );
    assert_eq!(
        issuer(entra(&format!("https://login.microsoftonline.us/{TENANT}/v2.0"))),
        format!("https://login.microsoftonline.us/{TENANT}/v2.0")
    );
    for (pasted, reason) in [
        ("common", "shared endpoint"),
        ("https://login.microsoftonline.com/organizations/v2.0", "shared endpoint"),
        ("contoso", "neither a tenant ID"),
        ("https://portal.azure.com/", "does not name a tenant"),
        ("", "neither a tenant ID"),
    ] {
        assert!(issuer(entra(pasted)).contains(reason), "{pasted}: {}", issuer(entra(pasted)));
    }
}

/// Found by review.
#[test]
fn value_that_only_resembles_a_tenant_or_a_host_is_refused() {
    let right = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    for pasted in
        [format!("login.microsoftonline.com/{TENANT}/v2.0"), format!("{{{TENANT}}}"), TENANT.replace('-', "")]
    {
        assert_eq!(issuer(entra(&pasted)), right, "{pasted}");
    }
    for pasted in [
        "https://graph.microsoft.com/v1.0/x",
        "https://evil.example/contoso.com",
        "https://xlogin.microsoftonline.com/contoso.com/v2.0",
        "https://login.microsoftonline.com/contoso.com'$(id)/",
        "v2.0",
    ] {
        assert!(issuer(entra(pasted)).starts_with("unusable"), "{pasted}: {}", issuer(entra(pasted)));
    }
    assert!(issuer(okta("x$(touch${IFS}a).okta.com", None)).starts_with("unusable"));
    assert_eq!(issuer(okta("a.okta.com", Some(""))), "https://a.okta.com/oauth2/default");
    let of_org = okta("https://a.okta.com/.well-known/openid-configuration", None);
    assert_eq!(issuer(of_org), "https://a.okta.com");
    assert_eq!(issuer(pingfederate("http://[::1]:9031")), "http://[::1]:9031");
    let braces = pingone(Some(&format!("{{{ENVIRONMENT}}}")), None, None);
    assert_eq!(issuer(braces), format!("https://auth.pingone.com/{ENVIRONMENT}/as"));
}

#[test]
fn okta_is_found_with_its_authorization_server() {
    let cases = [
        ("example.okta.com", None, "https://example.okta.com/oauth2/default"),
        ("https://example.okta.com/", None, "https://example.okta.com/oauth2/default"),
        ("https://example-admin.okta.com/admin/apps", None, "https://example.okta.com/oauth2/default"),
        ("example.okta.com", Some("org"), "https://example.okta.com"),
        (
            "https://example.okta.com/oauth2/aus123/.well-known/openid-configuration",
            None,
            "https://example.okta.com/oauth2/aus123",
        ),
        ("https://example.okta.com/oauth2/v1/authorize", None, "https://example.okta.com/oauth2/default"),
        ("login.example.com", Some("aus9"), "https://login.example.com/oauth2/aus9"),
    ];
    for (pasted, server, right) in cases {
        assert_eq!(issuer(okta(pasted, server)), right, "{pasted}");
    }
    let org = okta("example.okta.com", Some("org")).unwrap().endpoints.unwrap();
    assert_eq!(org.token_endpoint, "https://example.okta.com/oauth2/v1/token");
    assert!(issuer(okta("http://example.okta.com", None)).contains("must be https"));
    assert!(issuer(okta("example.okta.com", Some("a/b"))).contains("not an authorization server"));
}

#[test]
fn ping_is_found_with_region_port_and_custom_domain() {
    let right = format!("https://auth.pingone.eu/{ENVIRONMENT}/as");
    for (pasted, region) in [
        (ENVIRONMENT.to_owned(), Some("eu")),
        (ENVIRONMENT.to_owned(), Some(".EU")),
        (format!("{right}/.well-known/openid-configuration"), None),
        (format!("https://console.pingone.eu/?env={ENVIRONMENT}#/home"), None),
    ] {
        assert_eq!(issuer(pingone(Some(&pasted), region, None)), right, "{pasted}");
    }
    let australian =
        issuer(pingone(Some(&format!("https://auth.pingone.com.au/{ENVIRONMENT}/as")), None, None));
    assert_eq!(australian, format!("https://auth.pingone.com.au/{ENVIRONMENT}/as"));
    assert_eq!(issuer(pingone(None, None, Some("auth.example.com"))), "https://auth.example.com/as");
    assert!(issuer(pingone(Some(ENVIRONMENT), Some("mars"), None)).contains("not a region"));
    assert!(issuer(pingone(Some("production"), None, None)).contains("not an environment ID"));
    assert_eq!(issuer(pingfederate("sso.example.com:9031/")), "https://sso.example.com:9031");
    assert_eq!(issuer(pingfederate("https://sso.example.com/as/token.oauth2")), "https://sso.example.com");
    assert!(issuer(pingfederate("sso.example.com:9999")).contains("administrative console"));
}

#[test]
fn issuer_of_a_custom_provider_is_not_changed() {
    let cases = [
        ("https://id.example.com/realms/a", "https://id.example.com/realms/a"),
        ("https://id.example.com/realms/a/", "https://id.example.com/realms/a/"),
        (
            "https://id.example.com/realms/a/.well-known/openid-configuration",
            "https://id.example.com/realms/a",
        ),
        ("id.example.com", "https://id.example.com"),
        ("https://id.example.com", "https://id.example.com"),
    ];
    for (pasted, right) in cases {
        assert_eq!(issuer(custom(pasted)), right, "{pasted}");
    }
    assert!(issuer(custom("ftp://id.example.com")).contains("begins with https"));
    assert!(issuer(custom("what?")).contains("neither a host name"));
}

/// The table of endpoints on the app vendor's page.
#[test]
fn endpoints_are_those_of_the_app_vendors_page() {
    let of = |preset: Preset| preset.endpoints.unwrap();
    assert_eq!(
        of(entra(TENANT).unwrap()).jwks_uri,
        format!("https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys")
    );
    assert_eq!(
        of(okta("a.okta.com", None).unwrap()).authorization_endpoint,
        "https://a.okta.com/oauth2/default/v1/authorize"
    );
    assert_eq!(
        of(pingfederate("p.example.com").unwrap()).authorization_endpoint,
        "https://p.example.com/as/authorization.oauth2"
    );
    assert_eq!(
        of(pingone(Some(ENVIRONMENT), None, None).unwrap()).jwks_uri,
        format!("https://auth.pingone.com/{ENVIRONMENT}/as/jwks")
    );
    assert_eq!(of(google()).token_endpoint, "https://oauth2.googleapis.com/token");
}

/// Found by review: each of these got into the sheets, where nothing can be edited afterwards.
#[test]
fn value_that_is_nearly_right_is_refused_or_corrected() {
    let okta = |pasted: &str| super::okta(pasted, None).map_err(|error| error.to_string());
    assert!(okta("jane@example.com").unwrap_err().contains("is an e-mail address"));
    assert!(okta("okta.com").unwrap_err().contains("yours stands before it, such as example.okta.com"));
    assert!(okta("https://www.okta.com/login").unwrap_err().contains("yours stands before it"));
    assert!(okta("acme.okta.co").unwrap_err().contains("did you mean acme.okta.com?"));
    assert!(okta("login.okta.example.com").is_ok(), "a domain of its own");
    let issuer = |server| super::okta("example.okta.com", Some(server)).unwrap().issuer;
    assert_eq!(issuer("Default"), "https://example.okta.com/oauth2/default");
    assert_eq!(issuer("ORG"), "https://example.okta.com");
    let address = format!("https://auth.pingone.eu/{ENVIRONMENT}/as");
    let of = |region| super::pingone(Some(&address), region, None).map_err(|error| error.to_string());
    assert!(of(Some("com")).unwrap_err().contains("`com` contradicts the address, which is of `eu`"));
    assert_eq!(of(Some(".EU")).unwrap().issuer, address);
    let zeros = "00000000-0000-0000-0000-000000000000";
    assert!(super::entra(zeros).unwrap_err().to_string().contains("GUID of zeros"));
    assert!(super::pingone(Some(zeros), None, None).unwrap_err().to_string().contains("GUID of zeros"));
}
