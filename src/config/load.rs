pub struct Features; pub struct LoadError; pub struct Loaded; pub fn load(){} pub fn read(){}
