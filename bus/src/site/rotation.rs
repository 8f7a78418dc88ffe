//! New keys for a tenant's clients, while those who have the former ones go on.

use super::{CLIENT_FILE, MQTT_FILE, SiteFolder};
use crate::Error;
use crate::pki::{UserKey, write_secret};
use crate::tree::{MqttUser, mqtt_user};

impl SiteFolder {
    /// Gives a tenant's clients a new key; the old one is good until `until_s`. MQTT clients get a
    /// new name and password, and the old ones are good for as long. Wherever this breaks off, who
    /// was let in is let in; and whoever reads the files has a key that is good, or is about to be.
    pub fn rotate_tenant(&mut self, name: &str, now_s: u64, until_s: u64) -> Result<(), Error> {
        self.tenants.check(name)?;
        self.expire_keys(now_s)?;
        let file = |file: &str| self.tenant_file(name, file);
        let (client, mqtt) = (file(CLIENT_FILE), file(MQTT_FILE));
        let former = file(&former_mqtt_file(self.tenants.rotations(name)));
        let mut tenants = self.tenants.clone();
        tenants.rotate(name, &UserKey::load_or_generate(&client)?.public, now_s, until_s)?;
        if until_s > now_s {
            write_secret(&former, &UserKey::load_or_generate(&mqtt)?.seed)?;
        }
        self.tenants = tenants;
        self.save()?;
        write_secret(&client, &UserKey::generate()?.seed)?;
        write_secret(&mqtt, &UserKey::generate()?.seed)?;
        self.save()
    }

    /// As whom a tenant's MQTT clients log in from now on.
    pub fn mqtt_user(&self, tenant: &str) -> String {
        mqtt_user(tenant, self.tenants.rotations(tenant))
    }

    /// Forgets former keys whose time is over; true when there were any, and the server has to
    /// read its configuration again.
    pub fn expire_keys(&mut self, now_s: u64) -> Result<bool, Error> {
        let before = self.tenants.clone();
        let expired = self.tenants.expire(now_s);
        if expired.is_empty() {
            return Ok(false);
        }
        if let Err(e) = self.save() {
            self.tenants = before;
            return Err(e);
        }
        for (tenant, rotations) in expired.iter().filter_map(|(name, f)| Some((name, f.mqtt?))) {
            // A password that is left behind opens nothing.
            let _ = std::fs::remove_file(self.tenant_file(tenant, &former_mqtt_file(rotations)));
        }
        Ok(true)
    }

    /// The keys that a tenant's clients may use: the present one, and former ones for a while.
    pub(super) fn client_keys(&self, tenant: &str) -> Result<Vec<String>, Error> {
        let present = UserKey::load_or_generate(&self.tenant_file(tenant, CLIENT_FILE))?.public;
        let former = self.tenants.former(tenant).iter().map(|former| former.public.clone());
        // A rotation that broke off has noted the key, and not replaced it: a server takes it once.
        let former = former.filter(|former| *former != present).collect::<Vec<_>>();
        Ok([present].into_iter().chain(former).collect())
    }

    /// The same of its MQTT clients.
    pub(super) fn mqtt_users(&self, tenant: &str) -> Result<Vec<MqttUser>, Error> {
        let user = |rotations, file: &str| {
            let password = UserKey::load_or_generate(&self.tenant_file(tenant, file))?.seed;
            Ok(MqttUser { name: mqtt_user(tenant, rotations), password })
        };
        let present = user(self.tenants.rotations(tenant), MQTT_FILE);
        let former = self.tenants.former(tenant).iter().filter_map(|former| former.mqtt);
        let former = former.map(|rotations| user(rotations, &former_mqtt_file(rotations)));
        [present].into_iter().chain(former).collect()
    }
}

/// The file with the password that MQTT clients had after so many rotations, while it is good.
fn former_mqtt_file(rotations: u32) -> String {
    format!("mqtt.{rotations}.nk")
}
