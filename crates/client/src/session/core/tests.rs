mod cluster;
mod model;
mod properties;
mod scenarios;
mod world;
