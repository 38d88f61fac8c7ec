//! One labeler's lease of one task.

/// Where an assignment stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AssignmentStatus {
    /// Being worked on.
    Leased,
    /// Done.
    Submitted,
    /// Given back with a reason.
    Skipped,
    /// Its time ran out.
    Expired,
}

impl AssignmentStatus {
    /// Whether it can still be drafted and submitted: a lease that ran out can.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Leased | Self::Expired)
    }
}

impl std::str::FromStr for AssignmentStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "leased" => Ok(Self::Leased),
            "submitted" => Ok(Self::Submitted),
            "skipped" => Ok(Self::Skipped),
            "expired" => Ok(Self::Expired),
            other => Err(format!("unknown assignment status {other:?}")),
        }
    }
}
